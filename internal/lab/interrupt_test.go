package lab

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A stopper is a log that ends a context at the line of a step.
type stopper struct {
	slog.Handler
	step int64
	stop func()
}

func (s stopper) Enabled(context.Context, slog.Level) bool { return true }

func (s stopper) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if r.Message == "step" && a.Key == "step" && a.Value.Int64() == s.step {
			s.stop()
		}
		return true
	})
	return nil
}

// TestInterruptedInTheLastEvaluation: the run is saved and says that it was interrupted, which is no failure; it leaves
// no result, and resuming measures what was trained.
func TestInterruptedInTheLastEvaluation(t *testing.T) {
	dir := shards(t)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	r := Run{Dir: filepath.Join(dir, "run"), Config: load(t, tiny(dir), "train.eval_every=0")}
	r.Log = slog.New(stopper{slog.DiscardHandler, 6, stop})
	result, err := r.Do(ctx)
	if err != nil || !result.Interrupted || len(result.Sets) > 0 || result.Steps != 6 ||
		!strings.Contains(result.String(), "interrupted after 6 steps") {
		t.Fatalf("interrupted: %+v, %v", result, err)
	}
	if _, err := os.Stat(filepath.Join(r.Dir, resultName)); !os.IsNotExist(err) {
		t.Errorf("a result is there: %v", err)
	}
	r.Resume, r.Log = true, nil
	if result, err = r.Do(context.Background()); err != nil || result.Interrupted || len(result.Sets) != 1 {
		t.Errorf("resumed: %+v, %v", result, err)
	}
}

// TestNoFigureOfEarlierWeights: an evaluation that was cut short leaves none of an earlier step behind.
func TestNoFigureOfEarlierWeights(t *testing.T) {
	dir := shards(t)
	b, err := open(load(t, tiny(dir)), nil, nothingKnown)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if b.ppl.Progress != os.Stderr {
		t.Error("long evaluations show no progress")
	}
	if err := b.store.Init(1); err != nil {
		t.Fatal(err)
	}
	if _, err := b.evaluate(context.Background()); err != nil || b.measured == nil {
		t.Fatal(err)
	}
	ended, stop := context.WithCancel(context.Background())
	stop()
	if _, err := b.evaluate(ended); err == nil || b.measured != nil {
		t.Errorf("cut short: %v, %v", b.measured, err)
	}
}
