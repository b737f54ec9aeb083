package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"headroom/train"
)

// A failure is what a run that failed leaves in failed.json.
type failure struct {
	Hash   string `json:"config"` // of the configuration
	Reason string `json:"reason"`
}

const failureName = "failed.json"

// finished reads the run's result. One from other texts than its comparison's is an error.
func (r Run) finished() (*Result, error) {
	result, err := Finished(r.Dir, r.Config)
	if result == nil {
		return nil, err
	}
	if t, before, yes := changed(result.Texts, r.texts); yes {
		return nil,
			fmt.Errorf("lab: %s has figures of another text than the comparison: its %s, %s, had checksum %.12s, not %.12s",
				r.Dir, t.Key, t.Path, t.Sum, before.Sum)
	}
	return result, nil
}

// left reads the outcome of a run from its directory: its result, or its failure, or the reason why there is neither.
func (r Run) left() (*Result, *failure, error) {
	result, err := r.finished()
	if result != nil || err != nil {
		return result, nil, err
	}
	path := filepath.Join(r.Dir, failureName)
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		var f failure
		if err := json.Unmarshal(text, &f); err != nil {
			return nil, nil, fmt.Errorf("lab: %s: %w", path, err)
		}
		if f.Hash == r.Config.Hash() {
			return nil, &f, nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("lab: %w", err)
	}
	switch err := r.alien(); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, errors.New("not started")
	case err != nil:
		return nil, nil, err
	}
	_, state, err := train.Latest(r.Dir)
	if err != nil {
		return nil, nil, err
	}
	return nil, nil, fmt.Errorf("not finished: its newest checkpoint is at step %d", state.Step)
}

// fail keeps why a run failed. Where that cannot be written, the run counts as not finished.
func (r Run) fail(reason error) error {
	err := os.MkdirAll(r.Dir, 0o777)
	if err == nil {
		err = writeFile(filepath.Join(r.Dir, failureName), failure{r.Config.Hash(), reason.Error()})
	}
	if err != nil {
		return errors.Join(reason, err)
	}
	return reason
}
