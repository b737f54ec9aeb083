package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"

	"headroom/configs"
)

// settle notes the texts of the comparison, after it has held every run that its directory has already against what it asks for: one that
// was made with other settings or from other texts under the same names would not be comparable.
func (c *Compare) settle() error {
	var all []Text
	for _, arm := range c.Arms {
		now, err := texts(arm.Config)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // what is missing fails its own runs
			return fmt.Errorf("%w (arm %s)", err, arm.label())
		}
		rates := c.LR
		if len(rates) == 0 {
			rates = []float64{0}
		}
		for _, lr := range rates {
			for _, seed := range c.Seeds {
				if err := c.at(arm, seed, lr).fits(now); err != nil {
					return err
				}
			}
		}
		for _, t := range now {
			if !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	c.Texts = all
	return nil
}

// fits says why what lies in the run's directory is not of this comparison.
func (r Run) fits(now []Text) error {
	switch err := r.alien(); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%w: choose another --out, or undo the change; nothing was written", err)
	}
	was, err := used(r.Dir)
	if err != nil {
		return err
	}
	if len(was) == 0 {
		slog.Warn("compare: a run was made before texts were noted, so nobody knows that it had these", "dir", r.Dir)
	}
	stored, err := configs.Stored(filepath.Join(r.Dir, configName))
	if err != nil {
		return err
	}
	if len(configs.Changes(stored, r.Config)) > 0 {
		now = trainedOn(now) // all else is measured again
	}
	if t, before, yes := changed(now, was); yes {
		return another(r.Dir, t, before)
	}
	return nil
}
