package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"headroom/configs"
	"headroom/data"
	"headroom/model"
)

// A Text is something that a run reads, with a checksum of what it holds, so that results from different texts under
// one name are not compared.
type Text struct {
	Key  string `json:"key" yaml:"key"` // that names it: data.train, data.val.books
	Path string `json:"path" yaml:"path"`
	Sum  string `json:"sha256" yaml:"sha256"`
}

// textsName is where a run keeps what it reads.
const textsName = "texts.json"

// texts are all that a run reads. Shards are held against the checksums of their meta.json. The error is an
// fs.ErrNotExist only where nothing is wrong but that some are missing.
func texts(c configs.Run) (all []Text, err error) {
	add := func(key, path string, sum func(string) (string, error)) {
		s, bad := sum(path)
		switch {
		case bad == nil:
			all = append(all, Text{key, path, s})
		case err == nil, errors.Is(err, fs.ErrNotExist) && !errors.Is(bad, fs.ErrNotExist):
			err = bad
		}
	}
	parts, err := data.ParseMixture(c.Data.Train)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		add("data.train", p.Path, shardSum)
	}
	for _, sets := range []struct {
		key   string
		paths map[string]string
		sum   func(string) (string, error)
	}{{"data.val.", c.Data.Val, shardSum}, {"eval.sets.", c.Eval.Sets, shardSum},
		{"eval.select.", c.Eval.Select, shardSum}, {"eval.tasks.", c.Eval.Tasks, data.FileSum}} {
		for _, name := range slices.Sorted(maps.Keys(sets.paths)) {
			add(sets.key+name, sets.paths[name], sets.sum)
		}
	}
	if strings.HasSuffix(c.Data.Tokenizer, ".json") {
		add("data.tokenizer", c.Data.Tokenizer, data.FileSum)
	}
	if c.Train.From != "" {
		add("train.from", c.Train.From, func(path string) (string, error) {
			return data.FileSum(filepath.Join(path, model.WeightsFile))
		})
	}
	return all, err
}

func shardSum(path string) (string, error) {
	t, err := data.Open(path, data.OpenOptions{Headerless: true}) // the bytes count, whatever they are
	if err != nil {
		return "", err
	}
	defer t.Close()
	return t.Sum()
}

// changed finds the first text whose checksum is another than the recorded one.
func changed(now, was []Text) (t, before Text, yes bool) {
	for _, t := range now {
		i := slices.IndexFunc(was, func(w Text) bool { return w.Key == t.Key && data.SamePath(w.Path, t.Path) })
		if i >= 0 && was[i].Sum != t.Sum {
			return t, was[i], true
		}
	}
	return Text{}, Text{}, false
}

// another is the error of a text that changed after it was used in a directory.
func another(dir string, t, before Text) error {
	return fmt.Errorf("lab: %s is another text than the one that %s has used: %s has checksum %.12s now, not %.12s: "+
		"bring that text back, or choose another --out",
		t.Key, dir, t.Path, t.Sum, before.Sum)
}

// used are the texts that a run directory has noted; none where there is no run, or one from before they were.
func used(dir string) (all []Text, err error) {
	text, err := os.ReadFile(filepath.Join(dir, textsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: %s: %w", filepath.Join(dir, textsName), err)
	}
	return all, nil
}

// trainedOn leaves out what is measured again when a run goes on.
func trainedOn(all []Text) []Text {
	return slices.DeleteFunc(slices.Clone(all),
		func(t Text) bool { return configs.Matches(t.Key, []string{"data.val.*", "eval.*"}) })
}

// note checks the texts of a run against its comparison's plan and, where the run is resumed, against those that it was
// trained on, and records them.
func (r Run) note() ([]Text, error) {
	now, err := texts(r.Config)
	if err != nil {
		return nil, err
	}
	if t, before, yes := changed(now, r.texts); yes {
		return nil, another("the comparison", t, before)
	}
	was, err := used(r.Dir)
	if err != nil {
		return nil, err
	}
	if t, before, yes := changed(trainedOn(now), was); yes {
		return nil, another(r.Dir, t, before)
	}
	return now, writeFile(filepath.Join(r.Dir, textsName), now)
}
