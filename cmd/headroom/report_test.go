package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/configs"
	"headroom/eval"
	"headroom/internal/lab"
	"headroom/train"
)

func put(t *testing.T, text string, path ...string) {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// compared is the directory of a comparison of two arms with two seeds, twelve steps long.
func compared(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	c := eval.Comparison{Name: "kinds", Baseline: "gqa-2", Sets: []string{"fox"}}
	for i, kind := range []string{"gqa-2", "gta-2"} {
		arm := eval.Arm{Name: kind, Attention: kind, Parameters: 100, CacheBytes: int64(64 / (i + 1))}
		for seed := uint64(1); seed <= 2; seed++ {
			sets, err := lab.Short(kind, []string{"model.layers=1", "model.width=16", "model.vocab=257", "model.context=16",
				"attention.heads=2",
				"attention.head_dim=8", fmt.Sprintf("model.mlp=%d", 32+8*i), "train.steps=12", "data.train=x",
				fmt.Sprintf("train.seed=%d", seed)})
			if err != nil {
				t.Fatal(err)
			}
			r, err := configs.Load(configs.Input{Sets: sets})
			if err != nil {
				t.Fatal(err)
			}
			run := filepath.Join(dir, kind, fmt.Sprintf("seed-%d", seed))
			var metrics strings.Builder
			for step := 1; step <= 12; step++ {
				fmt.Fprintln(&metrics, asJSON(t, train.Line{Step: step, Loss: 5 / float64(step), Tokens: int64(32 * step)}))
			}
			put(t, r.Run.YAML(), run, "config.yaml")
			put(t, asJSON(t, lab.Result{Hash: r.Run.Hash(), Steps: 12}), run, "result.json")
			put(t, metrics.String(), run, "metrics.jsonl")
			put(t, asJSON(t, []train.Environment{{Command: []string{"headroom", "compare", "my kinds.yaml"}, Revision: "abc",
				CPU: "a chip", Cores: 2}}), run, "env.json")
			arm.Trials = append(arm.Trials, eval.Trial{Seed: seed, Perplexity: map[string]float64{"fox": 9 + float64(i)},
				TokensPerSecond: 100})
		}
		c.Arms = append(c.Arms, arm)
	}
	put(t, asJSON(t, c), dir, "comparison.json")
	return dir
}

func TestReport(t *testing.T) {
	dir := compared(t)
	code, out, logs := headroom("report", dir)
	page := filepath.Join(dir, "report.html")
	if code != 0 || out != page+"\n" || logs != "" {
		t.Fatalf("code %d, out %q, logs %q", code, out, logs)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"<code>attention.kind</code></td><td>gqa</td><td>gta</td>",
		"<code>attention.rope_dim</code></td><td>8</td><td>4</td>", "<code>model.mlp</code></td><td>32</td><td>40</td>",
		"<pre>headroom compare &#39;my kinds.yaml&#39;</pre>", "4 runs; revision abc; ", "a chip, 2 cores", "training FLOPs",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "train.seed") || strings.Contains(string(text), `class="notes"`) {
		t.Errorf("seeds count as differences, or there are notes, in\n%s", text)
	}
}

func TestReportNamesWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		name, file, text, want string // an empty text removes
	}{
		{"a hole", "metrics.jsonl", `{"step":1,"loss":5,"tokens":32}` + "\n" + `{"step":3,"loss":4,"tokens":96}` + "\n",
			"gta-2, seed 2, is not in the curves: RUN/metrics.jsonl: eval: line 2 is step 3: every step must have its line"},
		{"an end cut off", "metrics.jsonl", `{"step":1,"loss":5,"tokens":32}` + "\n",
			"gta-2, seed 2, is not in the curves: lab: RUN/metrics.jsonl has 1 of 12 steps"},
		{"no metrics", "metrics.jsonl", "",
			"gta-2, seed 2, is not in the curves: lab: open RUN/metrics.jsonl: no such file or directory"},
		{"another version", "config.yaml", "model: {depth: 3}\n",
			"gta-2, seed 2, is not in the curves: configs: RUN/config.yaml:1: unknown key model.depth"},
		{"another configuration", "config.yaml", "model: {layers: 3}\n",
			"gta-2, seed 2, is not in the curves: lab: RUN has no result of its configuration"},
		{"no result", "result.json", "", "gta-2, seed 2, is not in the curves: lab: RUN has no result of its configuration"},
		{"no environment", "env.json", "", "gta-2, seed 2: lab: open RUN/env.json: no such file or directory"},
		{"an empty environment", "env.json", "[]", "gta-2, seed 2: lab: RUN/env.json has no start"},
	} {
		dir := compared(t)
		run := filepath.Join(dir, "gta-2", "seed-2")
		if c.text == "" {
			if err := os.Remove(filepath.Join(run, c.file)); err != nil {
				t.Fatal(err)
			}
		} else {
			put(t, c.text, run, c.file)
		}
		code, _, logs := headroom("report", dir)
		want := strings.ReplaceAll(c.want, "RUN", run)
		if code != 0 || !strings.Contains(logs, want) || strings.Count(logs, "\n") != 1 {
			t.Errorf("%s: code %d, logs %q, not %q", c.name, code, logs, want)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "report.html")); err != nil ||
			!strings.Contains(string(text), "<li>"+want) || !strings.Contains(string(text), "<polyline") {
			t.Errorf("%s: %v; the page does not say it, or has lost the other curves", c.name, err)
		}
	}
}

func TestReportWithoutRunDirectories(t *testing.T) {
	dir := compared(t)
	for _, arm := range []string{"gqa-2", "gta-2"} {
		if err := os.RemoveAll(filepath.Join(dir, arm)); err != nil {
			t.Fatal(err)
		}
	}
	code, _, logs := headroom("report", dir)
	if code != 0 || strings.Count(logs, "\n") != 1 ||
		!strings.Contains(logs, "No run directory lies beside the comparison") {
		t.Errorf("code %d, logs %q", code, logs)
	}
	code, out, logs := headroom("report", filepath.Join(dir, "none"))
	if code != 2 || out != "" || logs != "headroom: eval: "+dir+
		"/none holds no comparison: there is no comparison.json\n" {
		t.Errorf("code %d, out %q, logs %q", code, out, logs)
	}
}
