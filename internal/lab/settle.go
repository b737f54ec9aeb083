package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"

	"headroom/configs"
	"headroom/data"
	"headroom/train"
)

// settle records the texts of the comparison. Before that it checks every run that the directory has already: a run
// with other settings, or from other texts under the same names, would not be comparable.
func (c *Compare) settle() error {
	if err := c.adopt(); err != nil {
		return err
	}
	var all []Text
	found := map[string][]Text{} // by arm
	for _, arm := range c.Arms {
		now, err := texts(arm.Config)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a missing text fails only the runs that still need it
			return fmt.Errorf("%w (arm %s)", err, arm.label())
		}
		found[arm.label()] = now
		for _, t := range now {
			if !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	for arm, r := range c.runs() {
		dirs := []string{r.Dir}
		if there, err := c.away(r.Dir); err != nil {
			return err
		} else if there != "" {
			dirs = append(dirs, there)
		}
		for _, r.Dir = range dirs {
			was, err := r.fits(found[arm.label()])
			if err != nil {
				return err
			}
			for _, t := range was { // the text of a finished run need not exist any more
				if !slices.ContainsFunc(all, func(u Text) bool { return u.Key == t.Key && data.SamePath(u.Path, t.Path) }) {
					all = append(all, t)
				}
			}
		}
	}
	c.Texts = all
	return nil
}

// fits says why the run in the directory does not belong to this comparison, and which texts it read.
func (r Run) fits(now []Text) (was []Text, err error) {
	switch err := r.alien(); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w: choose another --out, or undo the change; nothing was written", err)
	}
	if was, err = used(r.Dir); err != nil {
		return nil, err
	}
	if len(was) == 0 {
		slog.Warn(
			"compare: a run was made before checksums of texts were recorded, so it cannot be checked that it read these",
			"dir", r.Dir)
	}
	stored, err := configs.Stored(filepath.Join(r.Dir, configName))
	if err != nil {
		return nil, err
	}
	if changes := configs.Changes(stored, r.Config); len(changes) > 0 { // the run is resumed or measured again
		now, was = trainedOn(now), trainedOn(was)
		result, err := Finished(r.Dir, stored)
		if err != nil {
			return nil, err
		}
		if at, _, err := train.Latest(r.Dir); result != nil && err == nil && at == "" {
			return nil, fmt.Errorf("lab: %s is finished with %s %s, not %s, and has no checkpoint to go on from: undo the "+
				"change, or choose another --out; nothing was written",
				r.Dir, changes[0].Key, changes[0].From, changes[0].To)
		}
	}
	if t, before, yes := changed(now, was); yes {
		return nil, another(r.Dir, t, before)
	}
	return was, nil
}
