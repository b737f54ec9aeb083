package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEstimateHoldsAgainstRuns: the time that a dry run says is that of the runs, by far less than what a busy machine
// does to either.
func TestEstimateHoldsAgainstRuns(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := shards(t)
	text := strings.NewReplacer("width: 16, mlp: 24, context: 16", "width: 64, mlp: 172, context: 64",
		"steps: 6, batch: 2", "steps: 100, batch: 8", "eval_every: 3, save_every: 2", "eval_every: 20, save_every: 50").
		Replace(comparison(dir, ""))
	c, err := Order{}.open(context.Background(), []byte(text), dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Dir, c.Seeds = filepath.Join(dir, "runs"), c.Seeds[:1]
	all, err := c.Estimate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := c.Do(context.Background(), Jobs{}); err != nil {
		t.Fatal(err)
	}
	took, said := time.Since(began).Seconds(), Duration(all).Seconds()
	t.Logf("said %.2f s, took %.2f s: %+v", said, took, all)
	if said < took/6 || said > took*6 {
		t.Errorf("%.2f s were said, %.2f s it took", said, took)
	}
	for _, e := range all {
		// five evaluations of 2,700 tokens in six passes of 8 windows of 64, and the checkpoints of their steps and of step
		// 50
		beside := e.Cost.Start + 5*6*e.Cost.Pass + 6*e.Cost.Save
		if e.Runs != 1 || e.Training != 100*e.Cost.Step || e.Cost.Pass <= 0 || e.Cost.Save <= 0 || e.Beside < 0.999*beside ||
			e.Beside > 1.001*beside || e.Unknown != "" {
			t.Errorf("%+v: not %v s beside the steps", e, beside)
		}
	}
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "headroom-dry-run-*")); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}

	again(t, dir, "val", "something else")
	if err := c.settle(); err == nil {
		t.Error("another text is taken")
	}
	c.Dir = filepath.Join(dir, "others")
	if err := c.settle(); err != nil {
		t.Errorf("another text elsewhere: %v", err)
	}

	// A set that is not there yet is named.
	c.Arms[0].Config.Data.Val = map[string]string{"fox": dir + "/nowhere"}
	if all, err := c.Estimate(context.Background()); err != nil ||
		all[0].Unknown != "evaluation on fox, whose shards are not there yet" || all[0].Seconds <= 0 {
		t.Errorf("%+v, %v", all, err)
	}
}
