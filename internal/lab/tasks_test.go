package lab

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompareTasks: a task that is configured has its columns, whose figures are those of the runs, and a file that is
// no good keeps the run from beginning.
func TestCompareTasks(t *testing.T) {
	dir := shards(t)
	file := filepath.Join(dir, "piqa.jsonl")
	lines := `{"goal": "jump", "sol1": "over", "sol2": "the lazy dog", "label": 1}` + "\n" +
		`{"goal": "fox", "sol1": "quick", "sol2": "brown", "label": 0}` + "\n"
	if err := os.WriteFile(file, []byte(lines), 0o666); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(comparison(dir, ""), "\nbaseline", "\n  eval: {tasks: {piqa: "+file+"}}\nbaseline", 1)
	text = strings.Replace(text, "context: 16}", "context: 64}", 1)
	c, err := Order{}.open(context.Background(), []byte(text), dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Dir = filepath.Join(dir, "runs")
	table, err := c.Do(context.Background(), Jobs{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"piqa acc (random 0.5)", "piqa acc_norm (random 0.5)"} {
		if !strings.Contains(table.Text(), want) {
			t.Errorf("there is no column %s:\n%s", want, table.Text())
		}
	}
	sum := 0.0
	for _, seed := range c.Seeds {
		run := c.at(c.Arms[0], seed, 0)
		result, err := Finished(run.Dir, run.Config)
		if err != nil || len(result.Tasks) != 2 || result.Tasks[0].Items != 2 {
			t.Fatalf("got %+v, %v", result, err)
		}
		sum += result.Tasks[0].Value / 2
		checkpoint, stored, err := Checkpoint(run.Dir)
		if err != nil {
			t.Fatal(err)
		}
		_, again, err := Measure(context.Background(), checkpoint, stored)
		if err != nil || len(again) != 2 || again[1] != result.Tasks[1] {
			t.Errorf("measured again it is %+v, %v", again, err)
		}
	}
	if e := table.Arms[0].More["piqa acc (random 0.5)"]; e.N != 2 || math.Abs(e.Mean-sum) > 1e-12 {
		t.Errorf("got %+v, not %v", e, sum)
	}
	if err := os.WriteFile(file, []byte("{}"), 0o666); err != nil {
		t.Fatal(err)
	}
	bad := Run{Dir: filepath.Join(dir, "bad"), Config: c.Arms[0].Config}
	if _, err := bad.Do(context.Background()); err == nil ||
		!strings.HasSuffix(err.Error(), `piqa.jsonl: line 1: there is no field "label"`) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(bad.Dir); err == nil {
		t.Error("the run began")
	}
}
