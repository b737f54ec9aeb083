package lab

import (
	"fmt"

	"headroom/configs"
	"headroom/eval"
	"headroom/model"
)

// parameters counts a run's model.
func parameters(c configs.Run) (float64, error) {
	m, err := model.New(c.Model, c.Attention)
	if err != nil {
		return 0, err
	}
	return float64(m.Count().Parameters), nil
}

// trainFLOPs counts the operations of a run's training on one token: forward, and backward to inputs and weights.
func trainFLOPs(c configs.Run) (float64, error) {
	m, err := model.New(c.Model, c.Attention)
	if err != nil {
		return 0, err
	}
	T := c.Train.Context
	if T == 0 {
		T = c.Model.Context
	}
	return 3 * m.ForwardFLOPs(T), nil
}

// trainTokens is how many tokens a run is trained on, by one process.
func trainTokens(c configs.Run) (int64, error) {
	t, err := c.Train.Resolve(c.Model.Context, 1)
	return int64(t.Steps) * t.TokensPerStep(), err
}

// matchStep is what fitted MLP widths are multiples of.
const matchStep = 8

// match fits the MLP width of every arm so that it has as many parameters or FLOPs as the baseline.
func match(arms []Arm, baseline, what string) error {
	count := map[string]func(configs.Run) (float64, error){"parameters": parameters, "flops": trainFLOPs}[what]
	if count == nil {
		return nil
	}
	for _, base := range arms {
		if base.Name != baseline {
			continue
		}
		total, err := count(base.Config)
		if err != nil {
			return err
		}
		for i, arm := range arms {
			switch {
			case arm.Name == baseline:
				continue
			case arm.Config.Model.MLP != base.Config.Model.MLP:
				return fmt.Errorf("lab: compare: arm %s sets model.mlp, which match fits to the %s of %s", arm.Name, what, baseline)
			}
			if arms[i].Config, err = fitMLP(arm.Config, count, total); err != nil {
				return fmt.Errorf("arm %s: %w", arm.Name, err)
			}
		}
	}
	return nil
}

// unmatched says of each arm why match has not made it comparable to its baseline; empty where it has.
func (c *Compare) unmatched() (lines []string, err error) {
	sized := map[string]*eval.Arm{} // baselines by size
	var all []*eval.Arm
	for _, arm := range c.Arms {
		a := &eval.Arm{Name: arm.Name, Size: arm.Size, MLP: arm.Config.Model.MLP}
		n, err := parameters(arm.Config)
		if err != nil {
			return nil, err
		}
		a.Parameters = int64(n)
		if a.FLOPs, err = trainFLOPs(arm.Config); err != nil {
			return nil, err
		}
		if all = append(all, a); arm.Name == c.Baseline {
			sized[arm.Size] = a
		}
	}
	for _, a := range all {
		lines = append(lines, eval.Unmatched(c.Match, a, sized[a.Size]))
	}
	return lines, nil
}

// fitMLP sets the MLP width, a multiple of matchStep, with which a run's count comes closest to a total. Counts are
// linear in the width.
func fitMLP(c configs.Run, count func(configs.Run) (float64, error), total float64) (configs.Run, error) {
	c.Model.MLP = matchStep
	one, err := count(c)
	if err != nil {
		return c, err
	}
	c.Model.MLP = 2 * matchStep
	two, err := count(c)
	if err != nil {
		return c, err
	}
	slope := two - one
	c.Model.MLP = matchStep * max(1, 1+int((total-one)/slope+0.5))
	return c, nil
}
