package train

import (
	"context"
	"testing"

	"headroom/eval"
)

// TestPauses: what is counted ahead is what a run does whose every evaluation is the best so far.
func TestPauses(t *testing.T) {
	for _, every := range [][2]int{{0, 0}, {5, 0}, {0, 4}, {3, 4}, {5, 5}, {4, 2}, {20, 20}} {
		c := tinyConfig()
		c.Steps, c.EvalEvery, c.SaveEvery, c.Keep = 10, every[0], every[1], 100
		for _, evaluates := range []bool{true, false} {
			r := tiny(t, t.TempDir(), shard(t, 500), c)
			done := 0
			if r.Evaluate = nil; evaluates {
				r.Evaluate = func(context.Context) ([]eval.Result, error) {
					done++
					return []eval.Result{{Set: "x", NLL: 9 - float64(done)}}, nil
				}
			}
			train(t, r)
			saved, err := Steps(r.Dir)
			if err != nil {
				t.Fatal(err)
			}
			if evaluations, saves := c.Pauses(evaluates); evaluations != done || saves != len(saved) {
				t.Errorf("evaluating every %d and saving every %d: %d and %d, not %d and %d", every[0], every[1], evaluations,
					saves, done, len(saved))
			}
		}
	}
}
