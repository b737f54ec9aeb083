package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// home.go copies results to a directory that outlives the machine, and from there into a run directory that was lost. A
// result is a few files without weights. It is complete when result.json is there, which is copied last.

// resultFiles are what a finished run leaves besides weights and TensorBoard's copy of the metrics.
var resultFiles = []string{configName, textsName, "metrics.jsonl", "env.json", resultName}

// runs are all that the comparison may have: of every arm, rate and seed.
func (c *Compare) runs() iter.Seq2[Arm, Run] {
	return func(yield func(Arm, Run) bool) {
		for _, arm := range c.Arms {
			rates := c.rates(arm)
			if len(rates) == 0 {
				rates = []float64{0}
			}
			for _, lr := range rates {
				for _, seed := range c.Seeds {
					if !yield(arm, c.at(arm, seed, lr)) {
						return
					}
				}
			}
		}
	}
}

// away is the directory that keeps the results of a directory of the comparison, empty where none does.
func (c *Compare) away(dir string) (string, error) {
	if c.Results == "" || filepath.Clean(c.Results) == filepath.Clean(c.Dir) {
		return "", nil
	}
	in, err := filepath.Rel(c.Dir, dir)
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	return filepath.Join(c.Results, in), nil
}

// exchange copies results both ways, so that the comparison's directory and the directory of results have the same.
func (c *Compare) exchange() error {
	if c.Results == "" {
		return nil
	}
	for _, r := range c.runs() {
		if err := c.exchangeRun(r); err != nil {
			return err
		}
	}
	for _, arm := range c.Arms {
		if err := c.exchangeDecode(arm); err != nil {
			return err
		}
	}
	return nil
}

// exchangeRun is exchange of one run.
func (c *Compare) exchangeRun(r Run) error {
	there, err := c.away(r.Dir)
	if err != nil || there == "" {
		return err
	}
	here, err := Finished(r.Dir, r.Config)
	if err != nil {
		return err
	}
	kept, err := Finished(there, r.Config)
	switch {
	case err != nil:
		return err
	case here != nil && kept == nil:
		return bring(r.Dir, there, resultFiles)
	case here == nil && kept != nil:
		slog.Info("compare: taken from the results kept", "run", r.Dir, "from", there)
		return bring(there, r.Dir, resultFiles)
	}
	return nil
}

// exchangeDecode is exchange of the decode speed of an arm.
func (c *Compare) exchangeDecode(arm Arm) error {
	here := c.home(arm)
	there, err := c.away(here)
	if err != nil || there == "" {
		return err
	}
	at := func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, decodeName))
		return err == nil
	}
	switch {
	case at(here):
		return bring(here, there, []string{decodeName})
	case at(there):
		return bring(there, here, []string{decodeName})
	}
	return nil
}

// bring copies those of the files that are there, in order, unless the last, which says that all are there, is the same
// already. One process at a time does so.
func bring(from, to string, names []string) error {
	if err := os.MkdirAll(to, 0o777); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	lock, err := os.Open(to)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lab: %s: %w", to, err)
	}
	last := names[len(names)-1]
	new, err := os.ReadFile(filepath.Join(from, last))
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if old, err := os.ReadFile(filepath.Join(to, last)); err == nil && bytes.Equal(old, new) {
		return nil
	}
	// while a result is replaced, it does not count as one
	if err := os.Remove(filepath.Join(to, last)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lab: %w", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) && name != configName {
			continue
		}
		if err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		if err := replace(filepath.Join(to, name), text); err != nil {
			return err
		}
	}
	return nil
}
