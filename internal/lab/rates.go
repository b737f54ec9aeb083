package lab

import (
	"fmt"
	"slices"

	"headroom/eval"
)

// rates reads what an arm's runs show of the learning rates so far. The last of its values says whether each run is
// finished or has failed, so that a choice is final.
func (c *Compare) rates(a Arm) (rates []eval.Rate, complete error) {
	for _, lr := range c.LR {
		rate := eval.Rate{LR: lr}
		for _, seed := range c.Seeds[:c.LRSeeds] {
			run := c.at(a, seed, lr)
			switch result, failure, err := run.left(); {
			case result != nil:
				rate.NLL = append(rate.NLL, validation(run, result))
			case failure != nil:
				rate.Failures = append(rate.Failures, eval.Failure{Seed: seed, Reason: failure.Reason})
			default:
				complete = fmt.Errorf("lab: %s has no learning rate yet: %s: %w", a.label(), run.Dir, err)
			}
		}
		rates = append(rates, rate)
	}
	return rates, complete
}

// choose is the learning rate with the least validation loss of those with which every run finished.
func (c *Compare) choose(a Arm) (float64, error) {
	rates, err := c.rates(a)
	if err != nil {
		return 0, err
	}
	best := eval.BestRate(rates)
	if best < 0 {
		return 0, fmt.Errorf("lab: %s failed with every learning rate; with %g: %s", a.label(), c.LR[0], rates[0].Failures[0].Reason)
	}
	return c.LR[best], nil
}

// validation is the mean loss on the sets that rates are chosen on.
func validation(run Run, r *Result) float64 {
	chosen := selection(run.Config)
	sum, n := 0.0, 0.0
	for _, m := range r.Sets {
		if slices.Contains(chosen, m.Set) {
			sum, n = sum+m.NLL, n+1
		}
	}
	return sum / n
}
