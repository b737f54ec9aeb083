package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/configs"
	"headroom/data"
)

// shards prepares two small sets of bytes and returns their folder.
func shards(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text := strings.Repeat("the quick brown fox jumps over the lazy dog. ", 60)
	for _, name := range []string{"train", "val"} {
		file := filepath.Join(dir, name+".txt")
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := data.Prepare(context.Background(), data.Options{Tokenizer: "bytes", Out: filepath.Join(dir, name),
			Inputs: []string{file}}); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tiny is the text of a run that takes a second, on shards in dir.
func tiny(dir string) string {
	return fmt.Sprintf(`model: {layers: 1, width: 16, mlp: 24, context: 16}
attention: {heads: 2, head_dim: 8, groups: 2}
data: {train: %[1]s/train, val: {fox: %[1]s/val}, tokenizer: bytes}
train: {steps: 6, batch: 2, warmup: 2, eval_every: 3, save_every: 2, log_every: 100}
`, dir)
}

func load(t *testing.T, text string, sets ...string) configs.Run {
	t.Helper()
	document, err := configs.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := configs.Load(configs.Input{Document: document, Sets: sets})
	if err != nil {
		t.Fatal(err)
	}
	return r.Run
}

func TestRun(t *testing.T) {
	dir := shards(t)
	r := Run{Dir: filepath.Join(dir, "run"), Config: load(t, tiny(dir))}
	result, err := r.Do(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if result.Steps != 6 || result.Tokens != 6*2*16 || result.CacheBytes != 2*2*2*8 || result.Attention != "gqa-2" ||
		len(result.Sets) != 1 {
		t.Errorf("got %+v", result)
	}
	if m := result.Sets[0]; m.Set != "fox" || m.Perplexity < 50 || m.Perplexity > 300 || m.BitsPerByte == 0 {
		t.Errorf("got %+v", m)
	}
	kept, err := Finished(r.Dir, r.Config)
	if err != nil || kept == nil || kept.Sets[0].Perplexity != result.Sets[0].Perplexity {
		t.Errorf("kept %+v, %v", kept, err)
	}
	other := r
	other.Config = load(t, tiny(dir), "train.lr=0.5")
	other.Resume = true
	if _, err := other.Do(context.Background()); err == nil ||
		!strings.HasSuffix(err.Error(), "holds another run: train.lr is 0.001 there, not 0.5") {
		t.Errorf("got %v", err)
	}
	if kept, err := Finished(r.Dir, other.Config); kept != nil || err != nil {
		t.Errorf("another configuration finds %+v, %v", kept, err)
	}

	checkpoint, c, err := Checkpoint(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := Measure(context.Background(), checkpoint, c)
	if err != nil || again[0].NLL != result.Sets[0].NLL {
		t.Errorf("measured again %+v, %v", again, err)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(checkpoint, moved); err != nil {
		t.Fatal(err)
	}
	if _, c, err := Checkpoint(moved); err != nil || c.Model != r.Config.Model {
		t.Errorf("moved: %+v, %v", c.Model, err)
	}
}

func TestRunRefusesBadInput(t *testing.T) {
	dir := shards(t)
	for set, want := range map[string]string{
		"data.train=":            "configs: data.train must name the training shards",
		"data.train=" + dir:      "data: " + dir,
		"data.tokenizer=gpt2":    "was made with tokenizer bytes, not data.tokenizer gpt2",
		"model.vocab=200":        "made with bytes of 257 ids, but the vocabulary has 200",
		"train.warmup=7":         "warmup must be at most the 6 steps, not 7",
		"train.context=32":       "context must be at most the model's 16, not 32",
		"data.val.none=/nowhere": "/nowhere",
		"eval.context=99":        "eval: context must be at most the model's 16, not 99",
	} {
		out := filepath.Join(dir, "bad")
		_, err := Run{Dir: out, Config: load(t, tiny(dir), set)}.Do(context.Background())
		var failed *Failed
		if err == nil || !strings.Contains(err.Error(), want) || errors.As(err, &failed) {
			t.Errorf("%s: got %v", set, err)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s left a run directory", set)
		}
	}
}

// comparison is a file of two arms; extra goes below.
func comparison(dir, extra string) string {
	base := strings.ReplaceAll(strings.TrimSpace(tiny(dir)), "\n", "\n  ")
	return "name: kinds\nbase:\n  " + base +
		"\nbaseline: a\nseeds: [1, 2]\narms:\n  a: {}\n  b: {attention: {kind: gta}, model: {mlp: 32}}\n" + extra
}

func TestCompare(t *testing.T) {
	dir := shards(t)
	c, err := Order{}.open(context.Background(), []byte(comparison(dir, "")), dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Dir = filepath.Join(dir, "runs")
	stopped, stop := context.WithCancel(context.Background())
	stop()
	if table, err := c.Do(stopped, Jobs{}); table != nil || err != nil {
		t.Fatalf("interrupted: %v, %v", table, err)
	}
	table, err := c.Do(context.Background(), Jobs{})
	if err != nil {
		t.Fatal(err)
	}
	if d := table.Arms[1].Difference["fox"]; d.N != 2 || table.Arms[1].Attention != "gta-2" ||
		table.Arms[0].Parameters == table.Arms[1].Parameters {
		t.Errorf("got %+v", table)
	}
	metrics := filepath.Join(c.Dir, "b", "seed-2", "metrics.jsonl")
	before, err := os.Stat(metrics)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Do(context.Background(), Jobs{})
	if err != nil || again.Text() != table.Text() {
		t.Errorf("done again it is\n%s, %v", again.Text(), err)
	}
	if after, err := os.Stat(metrics); err != nil || after.ModTime() != before.ModTime() {
		t.Errorf("a finished run was trained again, %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(c.Dir, "comparison.md")); err != nil ||
		!strings.HasPrefix(string(text), "# kinds\n") {
		t.Errorf("comparison.md is %s, %v", text, err)
	}

	// A third arm that cannot run is named, and the others are kept.
	bad := c.Arms[1]
	bad.Name, bad.Config.Attention.Groups = "c", 2
	bad.Config.Data.Train = dir + "/none"
	c.Arms = append(c.Arms, bad)
	table, err = c.Do(context.Background(), Jobs{})
	var failed *Failed
	if !errors.As(err, &failed) || err.Error() != "lab: 2 of 6 runs failed or are not finished" ||
		!strings.Contains(table.Text(), "c, seed 1, failed: data: ") {
		t.Errorf("%v\n%s", err, table.Text())
	}
}

func TestPresetsOfComparisons(t *testing.T) {
	for _, name := range configs.Comparisons() {
		c, err := Open(context.Background(), Order{Name: name, Sets: []string{"data.train=x"}})
		if err != nil {
			t.Fatal(err)
		}
		if c.Name != name || len(c.Arms) != 4 || len(c.Seeds) != 3 || len(c.LR) < 2 || c.Dir != filepath.Join("runs", name) {
			t.Errorf("got %+v", c)
		}
		base, err := parameters(c.Arms[0].Config)
		if err != nil {
			t.Fatal(err)
		}
		for _, arm := range c.Arms {
			if n, err := parameters(arm.Config); err != nil || math.Abs(n/base-1) > 0.01 {
				t.Errorf("%s: %s has %g parameters, not %g, %v", name, arm.Name, n, base, err)
			}
		}
	}
	if _, err := Open(context.Background(), Order{Name: "book"}); err == nil ||
		err.Error() != "lab: book is neither a file nor one of the comparisons books-50m, books-cpu" {
		t.Errorf("got %v", err)
	}
}

func TestCompareRefuses(t *testing.T) {
	dir := shards(t)
	good := comparison(dir, "")
	for _, c := range []struct{ old, new, want string }{
		{"arms:", "arms:\n  z: {train: {lr: 1, seed: 3}}", "lab: compare: arm z changes train.lr from 0.001 to 1, which " +
			"vary (attention.*, model.mlp) does not allow; arm z changes train.seed"},
		{"kind: gta", "kind: gt", `arm b: configs: attention: kind "gt"`},
		{"kind: gta", "knd: gta", "arm b: configs: the arm:"},
		{"groups: 2", "groups: 3", "base: configs: attention: gqa: 3 key/value heads do not divide 2 query heads"},
		{"baseline: a", "baseline: z", `baseline must be one of the arms a, b, not "z"`},
		{"[1, 2]", "[]", "seeds must be a list of at least one"},
		{"[1, 2]", "[1, 1]", "seeds must be a list of at least one, each once"},
		{"[1, 2]", "[-1]", "lab: compare: yaml:"},
		{"name: kinds", "name: ../kinds", "name must be letters"},
		{"  a: {}", "  a/b: {}", "an arm's name"},
		{"  b: {", "  a: {", "lab: compare: "},
		{"name: kinds", "name: kinds\nvary: [model.mpl]", "unknown key model.mpl: the nearest known key is model.mlp"},
		{"name: kinds", "name: kinds\nsteps: 3", "field steps not found"},
		{"name: kinds", "name: kinds\nlr: [1e-3, 1e-3]",
			"lr must be a list of positive learning rates, each once, not [0.001 0.001]"},
		{"name: kinds", "name: kinds\nlr: [0]", "lr must be a list of positive learning rates"},
		{"name: kinds", "name: kinds\nlr: [1e-3]\nlr_seeds: 3", "lr_seeds must be from 0 to the 2 seeds, not 3"},
		{"name: kinds", "name: kinds\nlr_seeds: 1", "lr_seeds needs a list lr"},
		{"name: kinds", "name: kinds\nmatch: cache", `match must be parameters or flops, not "cache"`},
		{"name: kinds", "name: kinds\nmatch: flops", "arm b sets model.mlp, which match fits to the flops of a"},
		{"name: kinds", "name: kinds\ndecode: [8]", `decode must be BATCHxCONTEXT such as 8x1024, not "8"`},
		{"name: kinds", "name: kinds\ndecode: [0x8]", `decode must be BATCHxCONTEXT`},
		{"name: kinds", "name: kinds\nsizes: [a]", "sizes must be names with what each changes"},
		{"name: kinds", "name: kinds\nsizes: {a/b: {}}", "a size's name must be its own"},
		{"val: {fox: " + dir + "/val}, ", "",
			"lab: compare: arm a is measured on nothing: data.val must name at least one set"},
		{"b: {", "b: {eval: {sets: {cat: x}}, ", "arm b changes eval.sets"},
		{"arms:", "vary: [\"*\"]\narms:\n  z: {eval: {sets: {cat: x}}}",
			"all arms must be measured on the same sets, but z is on cat, fox and a on fox"},
		{"name: kinds", "name: kinds\nsizes: {s: {model: {layer: 1}}}", "size s: configs: the arm:"},
	} {
		if _, err := (Order{}).open(context.Background(), []byte(strings.Replace(good, c.old, c.new, 1)), dir); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v\nwant %s", c.new, err, c.want)
		}
	}
	for _, base := range []string{"[]", "nowhere.yaml"} {
		text := "name: x\nbase: " + base + "\nbaseline: a\nseeds: [1]\narms: {a: {}, b: {}}"
		if _, err := (Order{}).open(context.Background(), []byte(text), dir); err == nil {
			t.Errorf("base %s is taken", base)
		}
	}
}

func TestMatch(t *testing.T) {
	for what, count := range map[string]func(configs.Run) (float64, error){"parameters": parameters, "flops": trainFLOPs} {
		var arms []Arm
		kinds := []string{"gqa-4", "gqa-2"} // the baseline, and the first that it is matched with
		for _, name := range attention.Names() {
			if name != kinds[0] {
				kinds = append(kinds, name)
			}
		}
		for _, kind := range kinds {
			sets, err := Short(kind, nil)
			if err != nil {
				t.Fatal(err)
			}
			arms = append(arms, Arm{Name: kind, Config: load(t, "preset: quickstart", sets...)})
		}
		if err := match(arms, "gqa-4", what); err != nil {
			t.Fatal(err)
		}
		total, err := count(arms[0].Config)
		if err != nil {
			t.Fatal(err)
		}
		for _, arm := range arms {
			n, err := count(arm.Config)
			if arm.Config.Model.MLP == matchStep && n > total {
				continue // without an MLP it would be too large still, which tables warn of: mlra-4 reads four latents
			}
			wider := arm.Config
			wider.Model.MLP += matchStep
			more, bad := count(wider)
			if err != nil || bad != nil || 2*math.Abs(n-total) > more-n {
				t.Errorf("%s: width %d gives %g %s, not %g", arm.Name, arm.Config.Model.MLP, n, what, total)
			}
		}
		if err := match(arms, "gqa-4", what); err == nil ||
			!strings.Contains(err.Error(), "arm gqa-2 sets model.mlp, which match fits") {
			t.Errorf("got %v", err)
		}
	}
}

func TestDistribution(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{
		"src/fmt/print.go", "src/fmt/print_test.go", "src/encoding/json/v2/x.go", "src/net/url/url.go", "src/net/urlx/a.go",
		"src/cmd/go/main.go",
		"src/fmt/testdata/a.go", "doc/go_spec.html", "doc/go1.17_spec.html", "doc/go_mem.html",
	} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, nil, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := distribution(root)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, set := range []string{"train", "packages", "specification"} {
		for _, path := range files[set] {
			in, _ := filepath.Rel(root, path)
			got += set + ":" + filepath.ToSlash(in) + " "
		}
	}
	want := "train:src/fmt/print.go train:src/net/urlx/a.go train:doc/go_mem.html packages:src/encoding/json/v2/x.go " +
		"packages:src/net/url/url.go specification:doc/go_spec.html "
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := distribution(t.TempDir()); err == nil {
		t.Error("an empty root is taken")
	}
}
