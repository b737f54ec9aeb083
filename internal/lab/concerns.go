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

// Concerns are the problems with the texts and sizes of a comparison that are found before any run begins.
func (c *Compare) Concerns() (all []string, err error) {
	if all, err = c.unheld(); err != nil {
		return nil, err
	}
	for _, arm := range c.Arms {
		if arm.Config.Data.Documents != c.Arms[0].Config.Data.Documents {
			all = append(all, fmt.Sprintf("the arms differ in data.documents, and each is measured as it is trained: within "+
				"documents a token has less before it (%s has %s, %s has %s)", c.Arms[0].label(),
				c.Arms[0].Config.Data.Documents, arm.label(), arm.Config.Data.Documents))
			break
		}
	}
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

// concerns are the missing texts of a run, a vocabulary with many ids that its texts do not have, and sets that it is
// measured on although it is trained on them, and what no GPU has computed yet.
func concerns(c configs.Run) (all []string, err error) {
	look := func(key, path string) []string {
		sums, meta, bad := shardSums(path)
		if errors.Is(bad, fs.ErrNotExist) {
			all = append(all, fmt.Sprintf("%s is not there yet: %v", key, bad))
		} else if bad != nil && err == nil {
			err = bad
		}
		if key == "data.train" && meta != nil && c.Model.Vocab >= meta.Vocab+unusedIDs {
			all = append(all, fmt.Sprintf("model.vocab is %d, but %s has ids of tokenizer %s below %d: %d rows of the "+
				"embedding are never learned; model.vocab=%d would do",
				c.Model.Vocab, path, meta.Tokenizer, meta.Vocab, c.Model.Vocab-meta.Vocab, (meta.Vocab+127)/128*128))
		}
		return sums
	}
	parts, err := data.ParseMixture(c.Data.Train)
	if err != nil {
		return nil, err
	}
	all = append(all, Unproven(c)...)
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
			all = append(all, fmt.Sprintf("%s is trained on: %d of its %d shards (%s) are among those of data.train, so its "+
				"perplexity says nothing of other texts",
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

// unusedIDs is more ids than rounding a vocabulary up adds, which matrix products like.
const unusedIDs = 1024

// shardSums are the checksums of what a path names, and its meta.json if there is one.
func shardSums(path string) ([]string, *data.Meta, error) {
	t, err := data.Open(path, data.OpenOptions{Headerless: true}) // the bytes count, whatever they are
	if err != nil {
		return nil, nil, err
	}
	defer t.Close()
	sums, err := t.Sums()
	return sums, t.Meta, err
}
