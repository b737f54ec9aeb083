package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"headroom/configs"
	"headroom/train"
)

// Finished reads the result of a run directory that finished with this configuration. It is nil where none did.
func Finished(dir string, config configs.Run) (*Result, error) {
	path := filepath.Join(dir, resultName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	var r Result
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("lab: %s: %w", path, err)
	}
	was, err := os.ReadFile(filepath.Join(dir, configName))
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if configs.Hash(string(was)) != r.Hash {
		return nil, nil // the run was begun again after this result
	}
	stored, err := configs.Stored(filepath.Join(dir, configName))
	if err != nil || len(configs.Changes(stored, config)) > 0 {
		return nil, err
	}
	return &r, nil
}

// claim makes the directory and keeps the configuration, with paths that hold from everywhere, and the checksums of
// texts in it, unless another run lives there.
func (r Run) claim() ([]Text, error) {
	if err := os.MkdirAll(r.Dir, 0o777); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	begun, err := train.Begun(r.Dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(r.Dir, resultName)); err == nil {
		begun = true
	}
	if err := r.alien(); err != nil && !errors.Is(err, fs.ErrNotExist) && begun {
		// a run that never began may begin with another configuration
		return nil, err
	}
	if !begun {
		if err := os.Remove(filepath.Join(r.Dir, textsName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("lab: %w", err)
		}
	}
	texts, err := r.note()
	if err != nil {
		return nil, err
	}
	worries, err := concerns(r.Config)
	if err != nil {
		return nil, err
	}
	for _, w := range worries {
		slog.Warn("train: " + w)
	}
	return texts, replace(filepath.Join(r.Dir, configName), []byte(r.Config.Absolute().YAML()))
}

// alien is an error where the directory holds another run or one of another version, and an fs.ErrNotExist where it
// holds none.
func (r Run) alien() error {
	was, err := configs.Stored(filepath.Join(r.Dir, configName))
	if err != nil {
		return err
	}
	for _, c := range configs.Changes(was, r.Config) {
		follows := c.Key == "train.warmup" && r.Config.Train.Warmup < 0 // the warm-up of the checkpoint goes on
		if !follows && !configs.Matches(c.Key, free) {
			return fmt.Errorf("lab: %s holds another run: %s is %s there, not %s", r.Dir, c.Key, c.From, c.To)
		}
	}
	return nil
}

// free are the keys that a run may change when it resumes. Package train knows when the number of steps may.
var free = []string{"train.steps", "train.tokens", "train.eval_every", "train.save_every", "train.keep",
	"train.log_every", "train.device",
	"eval.*", "data.val"}
