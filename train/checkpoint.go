package train

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Names inside a run directory.
const (
	checkpoints = "checkpoints"
	stateFile   = "state.json"
	latest      = "latest"
	best        = "best"
	unfinished  = ".unfinished-" // before the name of a checkpoint that is being written or removed
)

func stepName(step int) string { return fmt.Sprintf("step-%08d", step) }

// Steps lists the steps of a run directory's whole checkpoints, oldest first. Whatever a crash left behind is passed
// over.
func Steps(run string) ([]int, error) {
	entries, err := os.ReadDir(filepath.Join(run, checkpoints))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	var steps []int
	for _, e := range entries {
		var step int
		if n, _ := fmt.Sscanf(e.Name(), "step-%d", &step); n != 1 || e.Name() != stepName(step) {
			continue
		}
		if s, err := whole(filepath.Join(run, checkpoints, e.Name())); err == nil && s.Step == step {
			steps = append(steps, step)
		}
	}
	slices.Sort(steps)
	return steps, nil
}

// Latest is the newest whole checkpoint of a run directory, found by looking at all of them rather than by the link.
// The path is empty where there is none.
func Latest(run string) (path string, s State, err error) {
	steps, err := Steps(run)
	if err != nil || len(steps) == 0 {
		return "", s, err
	}
	path = filepath.Join(run, checkpoints, stepName(steps[len(steps)-1]))
	s, err = whole(path)
	return path, s, err
}

// commit makes a checkpoint of what write leaves in an empty directory, in one move: it exists whole or not at all.
func commit(run string, s State, write func(dir string) error) (err error) {
	root := filepath.Join(run, checkpoints)
	tmp := filepath.Join(root, unfinished+stepName(s.Step))
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(tmp, 0o777); err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // nothing is there by then, unless a step failed
	if err := write(tmp); err != nil {
		return err
	}
	if s.Files, s.SHA256, err = flush(tmp); err != nil {
		return err
	}
	if err := s.write(filepath.Join(tmp, stateFile)); err != nil {
		return err
	}
	final := filepath.Join(root, stepName(s.Step))
	if err := discard(final); err != nil {
		return err
	}
	if err := move(tmp, final); err != nil {
		return err
	}
	return point(run, latest, s.Step)
}

// flush brings every file of a directory to the disk and returns their sizes and checksums.
func flush(dir string) (sizes map[string]int64, sums map[string]string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	sizes, sums = map[string]int64{}, map[string]string{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if err != nil {
			return nil, nil, err
		}
		sizes[e.Name()] = info.Size()
		if sums[e.Name()], err = checksum(path); err != nil {
			return nil, nil, err
		}
		if err := syncPath(path); err != nil {
			return nil, nil, err
		}
	}
	return sizes, sums, nil
}

// point turns the link name to a checkpoint in one move.
func point(run, name string, step int) error {
	link := filepath.Join(run, checkpoints, name)
	tmp := filepath.Join(run, checkpoints, unfinished+name)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Symlink(stepName(step), tmp); err != nil {
		return err
	}
	return move(tmp, link)
}

// prune removes all but the newest keep checkpoints and the best.
func prune(run string, keep int, b *Best) error {
	steps, err := Steps(run)
	if err != nil {
		return err
	}
	for _, step := range steps[:max(0, len(steps)-keep)] {
		if b != nil && b.Step == step {
			continue
		}
		if err := discard(filepath.Join(run, checkpoints, stepName(step))); err != nil {
			return err
		}
	}
	return nil
}

// discard removes a checkpoint, first from sight and then from the disk.
func discard(dir string) error {
	out := filepath.Join(filepath.Dir(dir), unfinished+"old-"+filepath.Base(dir))
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.Rename(dir, out); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(out)
}

// sweep removes what a crash left unfinished.
func sweep(run string) error {
	left, err := filepath.Glob(filepath.Join(run, checkpoints, unfinished+"*"))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// writeJSON replaces a file in one move.
func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return replace(path, append(text, '\n'))
}

// replace writes a file in one move.
func replace(path string, text []byte) error {
	tmp := path + ".tmp"
	defer os.Remove(tmp) // nothing is there by then, unless a step failed
	if err := os.WriteFile(tmp, text, 0o666); err != nil {
		return err
	}
	return move(tmp, path)
}

// move renames a file, directory or link within its directory. What it holds and its new name are on the disk
// afterwards, in this order.
func move(from, to string) error {
	if err := syncPath(from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncPath(filepath.Dir(to))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
