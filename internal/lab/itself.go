package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"headroom/eval"
)

// itself.go compares the baseline with itself, to see how often the test finds a difference that is not there.

// nullName is where that lies in the directory of the comparison, whose own files it leaves as they are.
const nullName = "null"

// Itself is a comparison of the baseline with itself, at the first of the sizes. Its arms are groups of runs with the
// comparison's seeds, two of which are a pair. Runs of one seed read their data in one order, as the arms of a
// comparison do, and differ in how their weights start: in the first group as in the comparison, whose results it
// takes.
func (c *Compare) Itself(pairs int) (*Compare, error) {
	if len(c.Seeds) < 2 {
		return nil, fmt.Errorf("lab: compare: --null needs two seeds at least, of which a test is made, not %d", len(c.Seeds))
	}
	if err := c.settle(); err != nil {
		return nil, err
	}
	base := c.Arms[slices.IndexFunc(c.Arms, func(a Arm) bool { return a.Name == c.Baseline })]
	lr := 0.0
	if len(c.LR) > 0 {
		var err error
		if lr, err = c.choose(base); err != nil {
			return nil, fmt.Errorf("lab: compare: --null trains %s at its best learning rate, so it needs the comparison's "+
				"runs first, by the same command without --null: %w", base.label(), err)
		}
		base.Config.Train.LR = lr
	}
	there, err := c.away(filepath.Join(c.Dir, nullName))
	if err != nil {
		return nil, err
	}
	n := &Compare{Name: c.Name + "-" + nullName, Dir: filepath.Join(c.Dir, nullName), Seeds: c.Seeds,
		Results: there, Of: base.label()}
	for i := range 2 * pairs {
		n.Arms = append(n.Arms, Arm{Size: base.Size, Name: fmt.Sprintf("group-%d", i+1), Config: base.Config,
			Start: uint64(i) * otherStart})
	}
	n.Baseline = n.Arms[0].Name
	for _, seed := range c.Seeds {
		n.lent = append(n.lent, c.at(base, seed, lr))
	}
	n.lender = c
	return n, nil
}

// otherStart is added to the seed of a group's initial weights for each group before it. It is beyond the seeds that
// people choose.
const otherStart = 1_000_000

// Null trains what is missing of a comparison with itself, and tests its groups against each other. It is nil when ctx
// ends first.
func (c *Compare) Null(ctx context.Context, jobs Jobs) (*eval.Null, error) {
	if err := c.store(); err != nil {
		return nil, err
	}
	if err := c.borrow(); err != nil {
		return nil, err
	}
	if done, err := c.train(ctx, jobs); !done {
		return nil, err
	}
	n, err := c.CollectNull()
	if bad := c.exchange(); bad != nil {
		err = &Failed{errors.Join(err, bad)}
	}
	return n, err
}

// borrow takes over the results that the comparison has already.
func (c *Compare) borrow() error {
	for i, r := range c.lent {
		to := c.at(c.Arms[0], c.Seeds[i], 0)
		if result, err := to.finished(); result != nil || err != nil {
			return err
		}
		dirs := []string{r.Dir}
		if there, err := c.lender.away(r.Dir); err != nil {
			return err
		} else if there != "" {
			dirs = append(dirs, there)
		}
		for _, r.Dir = range dirs {
			result, err := Finished(r.Dir, to.Config)
			if err != nil {
				return err
			}
			if result != nil {
				if err := bring(r.Dir, to.Dir, resultFiles); err != nil {
					return err
				}
				break
			}
		}
	}
	return nil
}

// CollectNull tests what the runs of a comparison with itself have left.
func (c *Compare) CollectNull() (*eval.Null, error) {
	var groups []eval.Arm
	missing := 0
	for _, arm := range c.Arms {
		a, err := c.collect(arm)
		if err != nil {
			return nil, err
		}
		groups = append(groups, a)
		missing += len(a.Failures)
	}
	n, err := eval.NewNull(groups, reported(c.Arms[0].Config))
	if err != nil {
		if missing > 0 {
			err = fmt.Errorf("%w; the first failure: %s", err, firstFailure(groups))
		}
		return nil, &Failed{err}
	}
	n.Name, n.Arm, n.LR = c.Name, c.Of, c.Arms[0].Config.Train.LR
	if err := writeFile(filepath.Join(c.Dir, nullName+".json"), n); err != nil {
		return n, &Failed{err}
	}
	if err := replace(filepath.Join(c.Dir, nullName+".md"), []byte(n.Markdown())); err != nil {
		return n, &Failed{err}
	}
	if missing > 0 {
		return n, &Failed{fmt.Errorf("lab: %d of %d runs failed or are not finished", missing, len(c.Arms)*len(c.Seeds))}
	}
	return n, nil
}

func firstFailure(groups []eval.Arm) string {
	for _, g := range groups {
		for _, f := range g.Failures {
			return fmt.Sprintf("%s, seed %d: %s", g.ID(), f.Seed, f.Reason)
		}
	}
	return ""
}
