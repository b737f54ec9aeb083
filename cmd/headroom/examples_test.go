package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"headroom/configs"
	"headroom/internal/lab"
)

// TestExamples: every YAML file of docs/examples is a comparison whose arms all make models, a run that makes one, or a
// manifest whose commands exist.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../docs/examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sorts := map[string]int{}
	for _, file := range files {
		sort, err := example(t, file)
		if err != nil {
			t.Errorf("%s, a %s: %v", file, sort, err)
		}
		sorts[sort]++
	}
	if sorts["comparison"] < 3 || sorts["run"] < 2 || sorts["manifest"] < 2 {
		t.Errorf("of %d files, these were found: %v", len(files), sorts)
	}
}

// TestNoExample shows that the test above sees what is wrong.
func TestNoExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/examples/gate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		strings.Replace(string(text), "gate: head}", "gate: heads}", 1): `gate is none, head or element, not "heads"`,
		strings.Replace(string(text), "gate: head}", "gates: head}", 1): "unknown key attention.gates",
		"model: {layer: 12}": "unknown key model.layer",
		"apiVersion: v1\ncommand: [headroom, train, run.yaml, --fast]": "unknown flag: --fast",
		"apiVersion: v1\nkind: Job":                                    "no command",
	} {
		file := filepath.Join(t.TempDir(), "example.yaml")
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if sort, err := example(t, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a %s: %v, want %s", sort, err, want)
		}
	}
}

// example says what sort of file one is, and what is wrong with it.
func example(t *testing.T, file string) (sort string, err error) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		return "file", err
	}
	var document map[string]any
	if err := yaml.Unmarshal(text, &document); err != nil {
		return "file", err
	}
	switch {
	case document["apiVersion"] != nil:
		return "manifest", manifest(document)
	case document["arms"] != nil:
		c, err := lab.Open(t.Context(), lab.Order{Name: file, Dry: true, Out: t.TempDir()})
		if err == nil {
			_, err = c.Concerns()
		}
		return "comparison", err
	}
	r, err := configs.Load(configs.Input{File: file})
	if err != nil {
		return "run", err
	}
	r.Data.Train, r.Data.Val = "shards", map[string]string{"val": "shards"} // which are not the example's to say
	return "run", r.Validate()
}

// manifest looks for commands, at any depth, and says which is not understood.
func manifest(document any) error {
	commands := 0
	var walk func(v any) error
	walk = func(v any) error {
		switch v := v.(type) {
		case map[string]any:
			for key, under := range v {
				words, _ := under.([]any)
				if key == "command" && len(words) > 0 && words[0] == "headroom" {
					var line []string
					for _, w := range words[1:] {
						line = append(line, w.(string))
					}
					commands++
					if err := understood(strings.Join(line, " ")); err != nil {
						return err
					}
				}
				if err := walk(under); err != nil {
					return err
				}
			}
		case []any:
			for _, under := range v {
				if err := walk(under); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk(document); err != nil {
		return err
	}
	if commands == 0 {
		return errors.New("a manifest with no command of headroom")
	}
	return nil
}
