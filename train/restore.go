package train

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"headroom/attention"
	"headroom/data"
	"headroom/model"
)

// find chooses the checkpoint that the run goes on from: the newest that is what was written. It is nil where the run
// begins. A run is never begun over another's remains.
func (s *session) find() (*found, error) {
	all, err := find(s.Dir)
	if err != nil {
		return nil, err
	}
	good, damaged := newest(all)
	for s.Resume && good != nil {
		if good.damaged = good.state.check(good.path, []string{model.WeightsFile, momentsFile}); good.damaged == nil {
			break
		}
		good, damaged = newest(all)
	}
	const anew = "choose another directory, or remove this one to begin anew"
	switch {
	case good == nil && len(damaged) > 0:
		return nil, fmt.Errorf("train: %s holds a run that cannot be resumed, for no checkpoint is whole: %s; %s", s.Dir,
			reasons(damaged), anew)
	case good == nil:
		step, err := saved(s.Dir)
		if err == nil && step > 0 {
			err = fmt.Errorf("train: %s holds a run that cannot be resumed: it saved step %d, but %s has no checkpoint; %s",
				s.Dir, step, filepath.Join(s.Dir, checkpoints), anew)
		}
		return nil, err
	case !s.Resume:
		return nil, fmt.Errorf("train: %s holds a run at step %d: go on with --resume, or choose another directory",
			s.Dir, good.step)
	}
	if len(damaged) > 0 && s.first() {
		slog.Warn("the run goes on from an older checkpoint, for newer ones are damaged and now set aside under other names",
			"step", good.step, "damaged", reasons(damaged))
		err = aside(damaged)
	}
	return good, err
}

// aside renames damaged checkpoints, so that they do not count as the newest.
func aside(damaged []found) error {
	for _, c := range damaged {
		to := filepath.Join(filepath.Dir(c.path), setAside+filepath.Base(c.path))
		if err := errors.Join(os.RemoveAll(to), os.Rename(c.path, to)); err != nil {
			return fmt.Errorf("train: %w", err)
		}
	}
	return nil
}

// Begun says that a directory holds a run that has done a step or left a checkpoint.
func Begun(run string) (bool, error) {
	if info, err := os.Stat(filepath.Join(run, "metrics.jsonl")); err == nil && info.Size() > 0 {
		return true, nil
	}
	all, err := find(run)
	if err != nil || len(all) > 0 {
		return true, err
	}
	step, err := saved(run)
	return step > 0, err
}

// saved is the step of a checkpoint that a run once had, 0 where it had none.
func saved(run string) (step int, err error) {
	starts, err := environments(run)
	for _, e := range starts {
		step = max(step, e.Step, e.Saved)
	}
	if to, bad := os.Readlink(filepath.Join(run, checkpoints, latest)); bad == nil && step == 0 {
		_, _ = fmt.Sscanf(to, "step-%d", &step) // an older version did not note it
	}
	return step, err
}

// restore loads a checkpoint, or begins at step 0 where there is none.
func (s *session) restore(from *found) error {
	now := map[string]string{}
	s.Config.settings(now)
	settings(now, "model", s.Model.Config)
	settings(now, "attention", s.Model.Attention.Resolve())
	maps.Copy(now, s.Settings)
	if s.first() {
		if err := sweep(s.Dir); err != nil {
			return fmt.Errorf("train: %w", err)
		}
	}
	if from == nil {
		s.state.Settings = now
		return s.weights()
	}
	path, was := from.path, from.state
	if n, err := strconv.Atoi(was.Settings["train.warmup"]); err == nil && s.Config.follows {
		// of fewer steps, or by an older version's rule
		s.Config.Warmup, now["train.warmup"] = n, was.Settings["train.warmup"]
	}
	before := maps.Clone(was.Settings)
	unsaid(before, now)
	if data.SamePath(before["data.tokenizer"], now["data.tokenizer"]) {
		before["data.tokenizer"] = now["data.tokenizer"]
	}
	if otherRanks(before, now) {
		s.journal.note("the run goes on with another number of processes: sums round otherwise than they would have")
	}
	if diff := differences(before, now); len(diff) > 0 {
		return fmt.Errorf("train: %s was trained with other settings: %s", path, strings.Join(diff, "; "))
	}
	if was.Step > s.Config.Steps {
		return fmt.Errorf("train: %s is at step %d, beyond the %d of this run", path, was.Step, s.Config.Steps)
	}
	s.state, s.checkpoint, s.before, s.staged = was, path, was.Elapsed, was.Step
	if err := loadWeights(path, s.Model, s.Store); err != nil {
		return err
	}
	if err := s.Data.Restore(was.Data); err != nil {
		return fmt.Errorf("train: %s: %w", path, err)
	}
	if !s.first() {
		return nil
	}
	if err := s.pointBest(); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	if err := point(s.Dir, latest, was.Step); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	if err := prune(s.Dir, s.Config.Keep, was.Best); err != nil { // keep may be smaller now, where the disk was full
		return fmt.Errorf("train: %w", err)
	}
	return nil
}

// pointBest turns the link to the best checkpoint, which is gone where the run goes on from before a better one.
func (s *session) pointBest() error {
	if s.state.Best != nil {
		_, err := os.Stat(filepath.Join(s.Dir, checkpoints, stepName(s.state.Best.Step)))
		if err == nil {
			return point(s.Dir, best, s.state.Best.Step)
		}
	}
	return os.RemoveAll(filepath.Join(s.Dir, checkpoints, best))
}

// unsaid adds the keys that a state of an older version does not say, with what it did: what there was but one way of
// was done that way, and a switch that was not there yet was off.
func unsaid(before, now map[string]string) {
	was := map[string]string{"model.init": model.Scaled, "model.norm": model.PreNorm, "model.activation": model.SiLU}
	if d, err := attention.Kind(before["attention.kind"]).Describe(); err == nil && d.Split {
		was["attention.query_norm"] = attention.WholeNorm
	}
	off := []string{"", "none", "false", "0", "[]"}
	for key, value := range now {
		if _, said := before[key]; said {
			continue
		}
		if way, known := was[key]; known {
			before[key] = way
		} else if slices.Contains(off, value) {
			before[key] = value
		}
	}
}
