package configs

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "run.yaml")
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return file
}

func node(t *testing.T, text string) *yaml.Node {
	t.Helper()
	n, err := Parse("arm", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPrecedence sets one key in more and more places, from the lowest to the highest.
func TestPrecedence(t *testing.T) {
	preset, err := Load(Input{Preset: "quickstart"})
	if err != nil {
		t.Fatal(err)
	}
	if preset.From["train.batch"] != "preset quickstart" || preset.From["train.beta1"] != "default" {
		t.Errorf("from %q and %q", preset.From["train.batch"], preset.From["train.beta1"])
	}
	in := Input{File: write(t, "preset: quickstart\ntrain: {lr: 0.5, batch: 3}\n")}
	check := func(lr float64, from string) {
		t.Helper()
		r, err := Load(in)
		if err != nil {
			t.Fatal(err)
		}
		if r.Train.LR != lr || r.From["train.lr"] != from || r.Train.Batch != 3 {
			t.Errorf("lr %v from %s, batch %d, not %v from %s", r.Train.LR, r.From["train.lr"], r.Train.Batch, lr, from)
		}
		if r.Model.Layers != preset.Model.Layers {
			t.Errorf("%d layers, not the preset's %d", r.Model.Layers, preset.Model.Layers)
		}
	}
	check(0.5, "file "+in.File)
	t.Setenv("HEADROOM_TRAIN_LR", "0.25")
	check(0.25, "env HEADROOM_TRAIN_LR")
	in.Sets = []string{"train.lr=0.75", "train.lr=3e-4"}
	check(3e-4, "--set")
	in.Over = []*yaml.Node{node(t, "train: {lr: 2}")}
	check(2, "arm")
}

func TestMaps(t *testing.T) {
	file := write(t, "data: {train: a b.bin, val: {WikiText-2: w, c4.en: c}}")
	r, err := Load(Input{File: file, Sets: []string{"data.val.books=b", "train.tokens=2e9"}})
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Data.Val; len(v) != 3 || v["WikiText-2"] != "w" || v["c4.en"] != "c" || v["books"] != "b" ||
		r.Data.Train != "a b.bin" {
		t.Errorf("got %+v", r.Data)
	}
	if r.Train.Tokens != 2_000_000_000 || r.Train.Steps != 0 {
		t.Errorf("%d tokens and %d steps", r.Train.Tokens, r.Train.Steps)
	}
	t.Setenv("HEADROOM_DATA_VAL", "{books: x}")
	if r, err = Load(Input{File: file, Sets: []string{"data.val.wiki=b"}}); err != nil || len(r.Data.Val) != 2 ||
		r.Data.Val["books"] != "x" {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ text, set, want string }{
		{"train: {lrr: 1}", "", "FILE:1: unknown key train.lrr: the nearest known key is train.lr"},
		{"tarin: {lr: 1}", "", "FILE:1: unknown key tarin: the nearest known key is train"},
		{"train:\n  lr: fast", "", `FILE:2: train.lr must be a finite number, not "fast"`},
		{"train: {lr: .nan}", "", "FILE:1: train.lr must be a finite number, not .nan"},
		{"train: {lr: .inf}", "", "FILE:1: train.lr must be a finite number, not .inf"},
		{"train: {lr: 1e999}", "", "FILE:1: train.lr must be a finite number, not \"1e999\""},
		{"train: {lr: '1'}", "", `FILE:1: train.lr must be a finite number, not "1"`},
		{"train: {lr: ~}", "", "FILE:1: train.lr must be a finite number, not nothing"},
		{"train: {lr: -1}", "", "train: lr must be positive, not -1"},
		{"train: {steps: 1.5}", "", "FILE:1: train.steps must be a whole number in 64 bits, not 1.5"},
		{"train: {steps: 10000000000000000000}", "",
			"FILE:1: train.steps must be a whole number in 64 bits, not 10000000000000000000"},
		{"train: {seed: -1}", "", "FILE:1: train.seed must be a whole number of at least 0 in 64 bits, not -1"},
		{"train: {schedule: 3}", "", "FILE:1: train.schedule must be a string, not 3"},
		{"train: {schedule: [a]}", "", "FILE:1: train.schedule must be a string, not a list"},
		{"train: 3", "", "FILE:1: train must be a mapping, not 3"},
		{"- 1", "", "FILE:1: the run must be a mapping, not a list"},
		{"train: {lr: 1, lr: 2}", "", "FILE:1: train.lr stands there twice"},
		{"data: {val: {a: 1}}", "", "FILE:1: data.val at a must be a string, not 1"},
		{"preset: fast", "", `preset "fast": must be one of `},
		{"a: [", "", "FILE: yaml: "},
		{"{}\n---\n{}", "", "FILE: must hold one YAML document"},
		{"", "train.lr", `--set "train.lr": must be KEY=VALUE`},
		{"", "train.lt=1", "--set: unknown key train.lt: the nearest known key is train.lr"},
		{"", "train=1", "--set: unknown key train: the nearest known key is train"},
		{"", "train.lr=x", `--set: train.lr must be a finite number, not "x"`},
		{"", "train.lr=[", `--set: train.lr must be a finite number, not "["`},
	} {
		in := Input{File: write(t, c.text)}
		if c.set != "" {
			in.Sets = []string{c.set}
		}
		_, err := Load(in)
		if want := "configs: " + strings.ReplaceAll(c.want, "FILE", in.File); err == nil ||
			!strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s %s:\n got %v\nwant %s", c.text, c.set, err, want)
		}
	}
	t.Setenv("HEADROOM_TRAIN_LR", "x")
	if _, err := Load(Input{}); err == nil ||
		err.Error() != `configs: HEADROOM_TRAIN_LR: train.lr must be a finite number, not "x"` {
		t.Errorf("got %v", err)
	}
}

func TestValidateNeedsData(t *testing.T) {
	if err := Default().Validate(); err == nil || !strings.Contains(err.Error(), "data.train must name") {
		t.Errorf("got %v", err)
	}
}

func TestPrintLoadsToTheSame(t *testing.T) {
	odd := []string{"data.train=a: b\n#", "data.val.x y=*", "train.eps=1e-300", "train.seed=18446744073709551615",
		"train.lr=1e30", "data.val.n=1", "data.val.m=~"}
	r, err := Load(Input{Sets: odd})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	again, err := Stored(write(t, out.String()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, &out)
	}
	resolved := r.Run
	resolved.Attention = r.Attention.Resolve()
	if changes := Changes(r.Run, again); len(changes) > 0 || again.Hash() != resolved.Hash() ||
		again.YAML() != resolved.YAML() {
		t.Errorf("%v of\n%s", changes, &out)
	}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if !strings.HasSuffix(line, ":") && !strings.Contains(line, "  # ") {
			t.Errorf("no origin in %q", line)
		}
	}
}

// TestPrintShowsDefaultDimensions: what the kind gives is shown as it is, with its rule, and is no change against what
// leaves it open.
func TestPrintShowsDefaultDimensions(t *testing.T) {
	for kind, want := range map[string][]string{
		"mla": {"groups: 1 # default of mla: one", "rope_dim: 32 # default of mla: 32 below head_dim 128",
			"latent_dim: 64 # default of mla: 4 x head_dim", "query_latent_dim: 128 # default of mla: 8 x head_dim"},
		"mfa": {"groups: 1 # default of mfa: one", "rope_dim: 16 # default of mfa: head_dim", "latent_dim: 0 # default",
			"query_latent_dim: 16 # default of mfa: head_dim"},
		"gla": {"groups: 4 # default", "latent_dim: 32 # default of gla: 2 x head_dim"},
		"gta": {"rope_dim: 8 # default of gta: head_dim / 2", "latent_dim: 0 # default"},
		"mha": {"groups: 4 # default", "rope_dim: 16 # default of mha: head_dim"},
	} {
		r, err := Load(Input{Sets: []string{"attention.kind=" + kind, "attention.head_dim=16"}})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := r.Print(&out); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.FieldsFunc(out.String(), func(r rune) bool { return r == ' ' }), " ")
		for _, w := range want {
			if !strings.Contains(text, " "+w+"\n") {
				t.Errorf("%s: no %q in\n%s", kind, w, &out)
			}
		}
		given := r.Run
		given.Attention = given.Attention.Resolve()
		if changes := Changes(r.Run, given); len(changes) > 0 {
			t.Errorf("%s: %v", kind, changes)
		}
		given.Attention.RopeDim = 4
		if changes := Changes(r.Run, given); len(changes) != 1 || changes[0].From == "0" || changes[0].To != "4" {
			t.Errorf("%s: %v", kind, changes)
		}
	}
}

func TestChanges(t *testing.T) {
	a, b := Default(), Default()
	b.Train.LR, b.Data.Val = 2, map[string]string{"x": "y"}
	got := Changes(a, b)
	if len(got) != 2 || got[0].Key != "data.val" || got[1] != (Change{"train.lr", "0.001", "2"}) {
		t.Errorf("got %v", got)
	}
	a.Data.Val, b.Data.Val, b.Train.LR = nil, map[string]string{}, a.Train.LR
	if got := Changes(a, b); len(got) > 0 || a.Hash() == (Run{}).Hash() {
		t.Errorf("got %v", got)
	}
	if !Matches("train.lr", []string{"model.x", "train.*"}) || Matches("train.lr", []string{"train.l", "tr"}) {
		t.Error("patterns")
	}
	if err := CheckPatterns("vary", []string{"train.*", "model.mpl"}); err == nil ||
		!strings.HasSuffix(err.Error(), "unknown key model.mpl: the nearest known key is model.mlp") {
		t.Errorf("got %v", err)
	}
}

func TestEveryPresetLoads(t *testing.T) {
	names := Presets()
	if !slices.Contains(names, "quickstart") {
		t.Errorf("presets are %v", names)
	}
	for _, name := range names {
		if _, err := Load(Input{Preset: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"lr", "rl", 2}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%s to %s: %d, not %d", c.a, c.b, got, c.want)
		}
	}
}

// FuzzLoad holds that no file makes the program panic, and that what loads prints to a file that loads to the same.
func FuzzLoad(f *testing.F) {
	for _, text := range []string{
		"", "~", "preset: quickstart", "train: {lr: 3e-4}", "data:\n  val: {a: b}\n", "a: &a [*a]",
		"model: &m {layers: 2}\ntrain: *m",
		"data: {val: &v {a: *v}}", "<<: {train: {lr: 1}}", "? {a: b}\n: c", "train: !!float x", "train: {lr: !!binary aGk=}",
		"data: {train: \"\\0\"}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Parse("fuzz", []byte(text))
		if err != nil {
			return
		}
		r, err := Load(Input{Document: n})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		again, err := Parse("printed", []byte(r.YAML()))
		if err != nil {
			t.Fatalf("%v in\n%s", err, r.YAML())
		}
		if r2, err := Load(Input{Document: again}); err != nil || r2.YAML() != r.YAML() {
			t.Fatalf("%v in\n%s", err, r.YAML())
		}
	})
}

// TestPatternIsAList: a pattern of layers is a list of words in a file, and a list or words with commas in a flag and
// in the environment. What is printed loads to the same run.
func TestPatternIsAList(t *testing.T) {
	file := write(t, "attention: {window: 8, pattern: [window, window, full]}\n")
	check := func(in Input, want string) Resolved {
		t.Helper()
		r, err := Load(in)
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Attention.Pattern) != want {
			t.Errorf("pattern %q, not %q", r.Attention.Pattern, want)
		}
		return *r
	}
	r := check(Input{File: file}, "window,window,full")
	if !strings.Contains(r.YAML(), "  pattern: [window, window, full]\n") {
		t.Errorf("it prints as\n%s", r.YAML())
	}
	check(Input{File: write(t, r.YAML())}, "window,window,full")
	check(Input{File: file, Sets: []string{"attention.pattern=full,window"}}, "full,window")
	t.Setenv("HEADROOM_ATTENTION_PATTERN", "[window,full]")
	check(Input{File: file}, "window,full")
	for text, want := range map[string]string{
		"attention: {window: 8, pattern: {a: b}}": "must be a list, not a mapping",
		"attention: {window: 8, pattern: [1, 2]}": "at position 1 must be a string, not 1",
		"attention: {window: 8, pattern: 3}":      "must be a list, not 3",
	} {
		if _, err := Load(Input{File: write(t, text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
