package lab

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"headroom/eval"
)

// extend.go adds learning rates to arms whose optimum is not among those that were tried. They stand in the plan, so
// that children, array jobs and later calls know them.

// An AddedRate is a learning rate that one arm tries besides those of the comparison.
type AddedRate struct {
	Arm string  `yaml:"arm"` // with its size
	LR  float64 `yaml:"lr"`
}

func (r AddedRate) of(a Arm) bool { return a.label() == r.Arm }

// rates are those that an arm tries, in rising order: the comparison's own and those that were added.
func (c *Compare) rates(a Arm) []float64 {
	all := slices.Clone(c.LR)
	for _, r := range c.Added {
		if r.of(a) {
			all = append(all, r.LR)
		}
	}
	slices.Sort(all)
	return all
}

// extensible says why no rates can be added.
func (c *Compare) extensible() error {
	if c.Extend && len(c.LR) < 2 {
		return fmt.Errorf("lab: compare: --extend-rates goes on in the ratio of the learning rates of lr, which must list "+
			"at least two, not %d", len(c.LR))
	}
	return nil
}

// adopt takes over the rates that an earlier call added.
func (c *Compare) adopt() error {
	dirs := []string{c.Dir}
	if there, err := c.away(c.Dir); err != nil {
		return err
	} else if there != "" {
		dirs = append(dirs, there)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, planName)); err != nil || len(c.LR) == 0 {
			continue
		}
		plan, err := Planned(dir)
		if err != nil {
			slog.Warn("compare: learning rates that were added earlier are not known", "reason", err)
			continue
		}
		for _, r := range plan.Added {
			c.beyond(r)
		}
	}
	return nil
}

// beyond adds a rate to an arm, once.
func (c *Compare) beyond(r AddedRate) {
	at := slices.IndexFunc(c.Arms, r.of)
	if at >= 0 && !slices.Contains(c.rates(c.Arms[at]), r.LR) {
		c.Added = append(c.Added, r)
	}
}

// extend adds the next rate to every arm whose optimum is not inside and whose rates all have their runs. It says
// whether there was one.
func (c *Compare) extend() (added bool) {
	for _, arm := range c.Arms {
		rates, err := c.tried(arm)
		if err != nil {
			continue
		}
		side := eval.Edge(rates, c.LRSeeds)
		if side == "" {
			continue
		}
		best := rates[eval.BestRate(rates)].LR
		if !c.Extend {
			slog.Warn("compare: at the edge: extend the rates, as --extend-rates does", "arm", arm.label(), "best",
				best, "optimum", side)
			continue
		}
		lr, ok := c.next(arm, side)
		if !ok {
			slog.Warn("compare: at the edge, and no rate is added any more: lr must list others", "arm", arm.label(), "best",
				best, "optimum", side, "added", eval.MostBeyond)
			continue
		}
		slog.Info("compare: at the edge: one rate more", "arm", arm.label(), "best", best, "optimum", side, "rate", lr)
		c.beyond(AddedRate{arm.label(), lr})
		added = true
	}
	return added
}

// next is the rate beyond those of an arm, in the ratio of the last two of the comparison on that side. After some
// there is none.
func (c *Compare) next(a Arm, side string) (lr float64, ok bool) {
	grid, all := slices.Sorted(slices.Values(c.LR)), c.rates(a)
	if side == eval.Lower {
		lr = all[0] * grid[0] / grid[1]
		ok = slices.Index(all, grid[0]) < eval.MostBeyond
	} else {
		last := len(grid) - 1
		lr = all[len(all)-1] * grid[last] / grid[last-1]
		ok = len(all)-1-slices.Index(all, grid[last]) < eval.MostBeyond
	}
	lr, err := strconv.ParseFloat(strconv.FormatFloat(lr, 'g', 6, 64), 64) // it names a folder
	return lr, ok && err == nil
}

// extensions are the runs that adding rates to an arm takes at most.
func (c *Compare) extensions(a Arm) int {
	if !c.Extend {
		return 0
	}
	return (2*eval.MostBeyond - (len(c.rates(a)) - len(c.LR))) * c.LRSeeds
}
