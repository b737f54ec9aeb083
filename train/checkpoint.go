package train

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"headroom/internal/disk"
)

// Names inside a run directory.
const (
	checkpoints = "checkpoints"
	stateFile   = "state.json"
	latest      = "latest"
	best        = "best"
	unfinished  = ".unfinished-" // before the name of a checkpoint that is being written or removed
	setAside    = "damaged-"     // before the name of a damaged checkpoint that a run did not go on from
)

func stepName(step int) string { return fmt.Sprintf("step-%08d", step) }

// A found is a checkpoint in a run directory, and what is wrong with it.
type found struct {
	step    int
	path    string
	state   State
	damaged error
}

// find lists the checkpoints of a run directory, oldest first, and reads their states and sizes. What a crash left
// unfinished is passed over.
func find(run string) (all []found, err error) {
	entries, err := os.ReadDir(filepath.Join(run, checkpoints))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	for _, e := range entries {
		var step int
		if n, _ := fmt.Sscanf(e.Name(), "step-%d", &step); n != 1 || e.Name() != stepName(step) {
			continue
		}
		c := found{step: step, path: filepath.Join(run, checkpoints, e.Name())}
		c.state, c.damaged = whole(c.path)
		if c.damaged == nil && c.state.Step != step {
			c.damaged = fmt.Errorf("%s is of step %d", filepath.Join(c.path, stateFile), c.state.Step)
		}
		if _, err := os.Lstat(c.path); errors.Is(err, fs.ErrNotExist) {
			continue // the run removed it meanwhile
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b found) int { return a.step - b.step })
	return all, nil
}

// Steps lists the steps of a run directory's whole checkpoints, oldest first.
func Steps(run string) (steps []int, err error) {
	all, err := find(run)
	for _, c := range all {
		if c.damaged == nil {
			steps = append(steps, c.step)
		}
	}
	return steps, err
}

// Latest is the newest checkpoint of a run directory, found by looking at all of them rather than by the link. The path
// is empty where there is none; one that is damaged is an error that names the newest whole one.
func Latest(run string) (path string, s State, err error) {
	all, err := find(run)
	if err != nil || len(all) == 0 {
		return "", s, err
	}
	good, damaged := newest(all)
	switch {
	case len(damaged) == 0:
		return good.path, good.state, nil
	case good == nil:
		return "", s, fmt.Errorf("train: %s has no whole checkpoint: %s", run, reasons(damaged))
	}
	return "", s, fmt.Errorf("train: the newest checkpoint of %s is damaged: %s; the newest whole one is %s", run,
		reasons(damaged), good.path)
}

// newest is the newest whole checkpoint, and the damaged ones that are newer.
func newest(all []found) (good *found, damaged []found) {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].damaged == nil {
			return &all[i], damaged
		}
		damaged = append(damaged, all[i])
	}
	return nil, damaged
}

func reasons(damaged []found) string {
	var all []string
	for _, c := range damaged {
		all = append(all, c.damaged.Error())
	}
	return strings.Join(all, "; ")
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
	if err := disk.Move(tmp, final); err != nil {
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
		if sums[e.Name()], err = disk.Sum(path); err != nil {
			return nil, nil, err
		}
		if err := disk.Sync(path); err != nil {
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
	return disk.Move(tmp, link)
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
