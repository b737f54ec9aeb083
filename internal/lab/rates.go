package lab

import (
	"errors"
	"fmt"
	"slices"

	"headroom/eval"
)

// tried reads the losses of an arm's learning rates from the runs that are finished. The last of its values says
// whether each run is finished or has failed, so that a choice is final.
func (c *Compare) tried(a Arm) (rates []eval.Rate, complete error) {
	for _, lr := range c.rates(a) {
		rate := eval.Rate{LR: lr}
		for _, seed := range c.Seeds[:c.LRSeeds] {
			run := c.at(a, seed, lr)
			switch result, failure, err := c.left(run); {
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
	rates, err := c.tried(a)
	if err != nil {
		return 0, err
	}
	best := eval.BestRate(rates)
	if best < 0 {
		return 0, fmt.Errorf("lab: %s failed with every learning rate; with %g: %s", a.label(), rates[0].LR,
			rates[0].Failures[0].Reason)
	}
	return rates[best].LR, nil
}

// left is what a run has left here, or the result that it has where results are kept.
func (c *Compare) left(r Run) (*Result, *failure, error) {
	result, failed, err := r.left()
	if result != nil || failed != nil {
		return result, failed, err
	}
	there, bad := c.away(r.Dir)
	if bad != nil || there == "" {
		return nil, nil, errors.Join(err, bad)
	}
	away := r
	away.Dir = there
	if result, bad = away.finished(); bad != nil {
		err = bad
	}
	return result, nil, err
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
