package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/configs"
)

// kept opens a comparison of two seeds in dir/runs that keeps its results in dir/kept.
func kept(t *testing.T, dir, text string) *Compare {
	t.Helper()
	c, err := Order{Keep: filepath.Join(dir, "kept")}.open(context.Background(), []byte(text), dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Dir = filepath.Join(dir, "runs")
	return c
}

func do(t *testing.T, c *Compare) string {
	t.Helper()
	table, err := c.Do(context.Background(), Jobs{})
	if err != nil {
		t.Fatal(err)
	}
	return table.Text()
}

// TestResultsAreKept: what a lost disk held comes back from the results, without weights and without training again,
// and the rest is done.
func TestResultsAreKept(t *testing.T) {
	dir := shards(t)
	text := comparison(dir, "lr: [1e-3, 2e-3]\nlr_seeds: 1\ndecode: [2x8]\n")
	whole := do(t, kept(t, dir, text))
	for path := range files(t, filepath.Join(dir, "kept")) {
		if strings.Contains(path, "checkpoint") || strings.Contains(path, ".safetensors") ||
			strings.HasPrefix(filepath.Base(path), ".") {
			t.Errorf("%s is kept", path)
		}
	}
	was := files(t, filepath.Join(dir, "kept"))
	if n := len(was); n != 6*len(resultFiles)+2+1 {
		// two rates at one seed and the best at the other, of two arms; their decode speeds; the plan
		t.Errorf("%d files are kept", n)
	}

	// The disk is lost, and one result came only in part.
	if err := os.RemoveAll(filepath.Join(dir, "runs")); err != nil {
		t.Fatal(err)
	}
	torn := filepath.Join(dir, "kept", "b", "lr-0.001", "seed-1")
	if err := os.Remove(filepath.Join(torn, resultName)); err != nil {
		t.Fatal(err)
	}
	do(t, kept(t, dir, text))
	again := files(t, filepath.Join(dir, "kept"))
	for path, text := range was {
		if !strings.HasPrefix(path, torn) && filepath.Base(path) != planName && again[path] != text {
			t.Errorf("%s is another", path)
		}
	}
	for _, name := range []string{"a/lr-0.001/seed-1", "a/lr-0.002/seed-1"} {
		if _, err := os.Stat(filepath.Join(dir, "runs", name, "checkpoints")); err == nil {
			t.Errorf("%s was trained again", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "runs", "b/lr-0.001/seed-1", "checkpoints")); err != nil {
		t.Errorf("a result in part was taken: %v", err)
	}

	// The results are a comparison of their own: table and report need nothing else.
	c, err := Planned(filepath.Join(dir, "kept"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := c.Collect()
	if err != nil || strings.Count(table.Text(), "\n") != strings.Count(whole, "\n") {
		t.Errorf("%v\n%s\nnot\n%s", err, table.Text(), whole)
	}
	if err := Report(c.Dir); err != nil {
		t.Error(err)
	}
}

// TestNoWeightsAreNeeded: runs whose checkpoints are gone are finished, also where their texts are gone. What would
// need the weights is refused.
func TestNoWeightsAreNeeded(t *testing.T) {
	dir := shards(t)
	text := comparison(dir, "")
	c := kept(t, dir, text)
	c.Results = ""
	whole := do(t, c)
	for _, r := range c.runs() {
		if err := os.RemoveAll(filepath.Join(r.Dir, "checkpoints")); err != nil {
			t.Fatal(err)
		}
	}
	was := files(t, c.Dir)
	edited := kept(t, dir, strings.Replace(text, "\nbaseline", "\n  eval: {stride: 8}\nbaseline", 1))
	edited.Results = ""
	want := "is finished with eval.stride 0, not 8, and has no checkpoint to go on from: undo the change"
	if _, err := edited.Do(context.Background(), Jobs{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("another stride: %v", err)
	}
	unchanged(t, "another stride", was, files(t, c.Dir))
	// A run by itself that has its result and no weights is not begun again over it.
	r := c.at(c.Arms[0], 1, 0)
	if _, err := r.Do(context.Background()); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("a finished run without weights: %v", err)
	}
	if stored, err := configs.Stored(filepath.Join(r.Dir, configName)); errors.Is(err, os.ErrNotExist) ||
		len(configs.Changes(stored, r.Config)) > 0 {
		t.Errorf("its configuration is gone: %v", err)
	}

	for _, set := range []string{"train", "val"} {
		if err := os.RemoveAll(filepath.Join(dir, set)); err != nil {
			t.Fatal(err)
		}
	}
	if again := do(t, c); again != whole {
		t.Errorf("without weights and texts\n%s\nnot\n%s", again, whole)
	}
	plan, err := Planned(c.Dir)
	if err != nil || len(plan.Texts) != 2 {
		t.Errorf("the plan knows the texts %+v, %v", plan.Texts, err)
	}
}
