package lab

import (
	"headroom/configs"
	"headroom/model"
)

// parameters counts a run's model.
func parameters(c configs.Run) (int64, error) {
	m, err := model.New(c.Model, c.Attention)
	if err != nil {
		return 0, err
	}
	return m.Count().Parameters, nil
}

// MatchMLP sets the MLP width, a multiple of step, with which a run comes closest to a total of parameters. The total is
// linear in the width.
func MatchMLP(c configs.Run, total int64, step int) (configs.Run, error) {
	c.Model.MLP = step
	one, err := parameters(c)
	if err != nil {
		return c, err
	}
	c.Model.MLP = 2 * step
	two, err := parameters(c)
	if err != nil {
		return c, err
	}
	slope := two - one
	c.Model.MLP = step * max(1, 1+int((total-one+slope/2)/slope))
	return c, nil
}
