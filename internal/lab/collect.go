package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"headroom/eval"
	"headroom/model"
)

// Collect makes the table from the results that tasks have left. Runs that failed or are not finished are named in the
// table with the reason; the error says how many there are.
func (c *Compare) Collect() (*eval.Comparison, error) {
	table := &eval.Comparison{
		Name: c.Name, Baseline: c.Baseline, Sets: reported(c.Arms[0].Config),
		Seeds: len(c.Seeds), LRSeeds: c.LRSeeds, Match: c.Match,
	}
	table.ChosenOn, table.ChosenReported = c.selected()
	missing, total := 0, 0
	for _, arm := range c.Arms {
		a, err := c.collect(arm)
		if err != nil {
			return nil, err
		}
		table.Arms = append(table.Arms, a)
		missing += len(a.Failures)
		total += len(c.Seeds)
		for _, r := range a.Rates {
			missing += len(r.Failures)
		}
		total += max(0, len(c.rates(arm))-1) * c.LRSeeds
	}
	if err := table.Score(); err != nil {
		return nil, err
	}
	if err := c.write(table); err != nil {
		return table, &Failed{err}
	}
	if missing > 0 {
		return table, &Failed{fmt.Errorf("lab: %d of %d runs failed or are not finished", missing, total)}
	}
	return table, nil
}

// collect reads the results of one arm.
func (c *Compare) collect(arm Arm) (a eval.Arm, err error) {
	a = eval.Arm{Name: arm.Name, Size: arm.Size, Attention: arm.Config.Attention.Name(), MLP: arm.Config.Model.MLP}
	m, err := model.New(arm.Config.Model, arm.Config.Attention)
	if err != nil {
		return a, fmt.Errorf("lab: arm %s: %w", arm.label(), err)
	}
	count := m.Count()
	a.Parameters, a.CacheBytes, a.CacheFP8 = count.Parameters, int64(2*count.CacheElements), int64(count.CacheFP8)
	if a.FLOPs, err = trainFLOPs(arm.Config); err != nil {
		return a, err
	}
	if a.Tokens, err = trainTokens(arm.Config); err != nil {
		return a, fmt.Errorf("lab: arm %s: %w", arm.label(), err)
	}
	if a.Decode, err = c.decoded(arm); err != nil {
		return a, err
	}
	tried := 0 // the seeds whose runs Rates already name
	if len(c.LR) > 0 {
		a.Rates, _ = c.tried(arm)
		if best, err := c.choose(arm); err == nil {
			a.LR = best
		} else {
			a.Failures = append(a.Failures, eval.Failure{Seed: c.Seeds[0], Reason: err.Error()})
			return a, nil
		}
		tried = c.LRSeeds
	}
	for i, seed := range c.Seeds {
		run := c.at(arm, seed, a.LR)
		switch result, failed, err := run.left(); {
		case result != nil:
			a.Trials = append(a.Trials, trial(seed, result, reported(arm.Config)))
		case i < tried: // chosen rates have all their runs
		case failed != nil:
			a.Failures = append(a.Failures, eval.Failure{Seed: seed, Reason: failed.Reason})
		default:
			a.Failures = append(a.Failures, eval.Failure{Seed: seed, Reason: err.Error()})
		}
	}
	return a, nil
}

func trial(seed uint64, r *Result, sets []string) eval.Trial {
	t := eval.Trial{Seed: seed, Perplexity: map[string]float64{}, TokensPerSecond: r.TokensPerSecond}
	for _, m := range r.Sets {
		if !slices.Contains(sets, m.Set) {
			continue
		}
		t.Perplexity[m.Set] = m.Perplexity
		if len(m.Blocks) > 0 {
			if t.Blocks == nil {
				t.Blocks = map[string][]eval.Block{}
			}
			t.Blocks[m.Set] = m.Blocks
		}
	}
	for _, f := range r.Tasks {
		t.More = append(t.More, f.Measure())
	}
	return t
}

// comparisonName is the file of the table, beside the runs.
const comparisonName = "comparison.json"

// write keeps the table beside the runs.
func (c *Compare) write(table *eval.Comparison) error {
	if err := os.MkdirAll(c.Dir, 0o777); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := writeFile(filepath.Join(c.Dir, comparisonName), table); err != nil {
		return err
	}
	return replace(filepath.Join(c.Dir, "comparison.md"), []byte(table.Markdown()))
}
