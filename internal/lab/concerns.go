package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"headroom/configs"
	"headroom/data"
)

// Concerns are what is wrong with the texts of a comparison before any run begins.
func (c *Compare) Concerns() (all []string, err error) {
	for _, arm := range c.Arms {
		some, err := concerns(arm.Config)
		if err != nil {
			return nil, fmt.Errorf("%w (arm %s)", err, arm.label())
		}
		for _, s := range some {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// concerns are the texts of a run that are not there, and the sets that it is measured on though it is trained on them.
func concerns(c configs.Run) (all []string, err error) {
	look := func(key, path string) []string {
		sums, bad := shardSums(path)
		if errors.Is(bad, fs.ErrNotExist) {
			all = append(all, fmt.Sprintf("%s is not there yet: %v", key, bad))
		} else if bad != nil && err == nil {
			err = bad
		}
		return sums
	}
	parts, err := data.ParseMixture(c.Data.Train)
	if err != nil {
		return nil, err
	}
	var trained []string
	for _, p := range parts {
		trained = append(trained, look("data.train", p.Path)...)
	}
	sets := Sets(c)
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		key := "data.val." + name
		if _, ok := c.Eval.Sets[name]; ok {
			key = "eval.sets." + name
		}
		if _, ok := c.Eval.Select[name]; ok {
			key = "eval.select." + name
		}
		sums, both := look(key, sets[name]), 0
		for _, s := range sums {
			if slices.Contains(trained, s) {
				both++
			}
		}
		if both > 0 {
			all = append(all, fmt.Sprintf("%s is trained on: %d of its %d shards (%s) are among those of data.train, so its perplexity says nothing of other texts",
				key, both, len(sums), sets[name]))
		}
	}
	for _, task := range slices.Sorted(maps.Keys(c.Eval.Tasks)) {
		if _, bad := os.Stat(c.Eval.Tasks[task]); bad != nil {
			all = append(all, fmt.Sprintf("eval.tasks.%s is not there yet: %v", task, bad))
		}
	}
	return all, err
}

// shardSums are the checksums of what a path names.
func shardSums(path string) ([]string, error) {
	t, err := data.Open(path, data.OpenOptions{})
	if err != nil {
		return nil, err
	}
	defer t.Close()
	return t.Sums()
}
