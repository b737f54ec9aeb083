package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"headroom/internal/graph"
	"headroom/train"
)

// products.go lets the runs of a comparison, and others that name one file, share the algorithms that were found by
// timing to be the fastest of a device for a shape. Later runs need not search, and all runs use the same algorithms.

// productsName is where a comparison keeps the algorithms, by device and shape.
const productsName = "products.json"

// algorithms are those that a run takes on a device: its checkpoint's, with which alone it goes on bit for bit, or
// those that its comparison has found. They must be set before anything is compiled, since evaluation and training
// share shapes.
func (r Run) algorithms(on graph.Backend) map[string]int {
	if r.Resume {
		if at, state, err := train.Latest(r.Dir); err == nil && at != "" {
			return state.Choices
		}
	}
	if r.Products == "" {
		return nil
	}
	all, err := readProducts(r.Products)
	if err != nil {
		slog.Warn("compare: the algorithms found so far cannot be read and are searched again", "reason", err)
	}
	return all[on.Name()]
}

// nothingKnown makes a device search its algorithms anew.
func nothingKnown(graph.Backend) map[string]int { return nil }

// found adds a device's algorithms to those of the comparison. What stands there stays, so that all runs have the same.
func (r Run) found(on graph.Backend) error {
	now := on.Choices()
	if r.Products == "" || len(now) == 0 {
		return nil
	}
	lock, err := os.Open(filepath.Dir(r.Products))
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lab: %s: %w", r.Products, err)
	}
	all, err := readProducts(r.Products)
	if err != nil || all == nil {
		all = map[string]map[string]int{}
	}
	before := all[on.Name()]
	maps.Copy(now, before)
	if maps.Equal(now, before) {
		return nil
	}
	all[on.Name()] = now
	return writeFile(r.Products, all)
}

func readProducts(path string) (all map[string]map[string]int, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: %s: %w", path, err)
	}
	return all, nil
}
