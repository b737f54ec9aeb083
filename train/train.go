package train

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"headroom/data"
	"headroom/eval"
	"headroom/internal/graph"
	"headroom/model"
)

// A Run is the training of one model in one directory.
type Run struct {
	Dir    string
	Config Config             // resolved
	Model  *model.Transformer // its loss is what is trained
	Store  *graph.Store       // its parameters, on the device
	Data   data.Source
	// Documents that attention stays within; nil where it reads all of a row.
	Documents *data.Documents
	Resume    bool // go on from the newest checkpoint in Dir, if there is one

	// Settings are further values that a resumed run must share with the one that began, by key: the data's, say.
	Settings map[string]string
	// Evaluate measures the model as it stands; nil for never.
	Evaluate func(context.Context) ([]eval.Result, error)
	// Log takes a line every few steps; nil means a progress bar on a terminal and the default log elsewhere.
	Log *slog.Logger
}

// Summary is the state of a run when Train returns.
type Summary struct {
	Step            int
	Loss            float64 // of the last step, 0 if this start made none
	Tokens          int64   // over all starts, as are the following
	TokensPerSecond float64 // of the steps alone, without evaluations and checkpoints
	Elapsed         time.Duration
	Best            *Best
	Checkpoint      string // the newest
	Interrupted     bool   // the context ended before the last step
}

// Train takes the model to the last step of its configuration, or until ctx ends: then it finishes the step, saves and
// returns without an error.
func (r Run) Train(ctx context.Context) (sum Summary, err error) {
	s, err := r.open()
	if err != nil {
		return sum, err
	}
	defer s.close(&err)
	if err := s.start(); err != nil {
		return sum, err
	}

	ahead := s.stage() // Accumulate times [B, T] inputs and targets
	stop := r.Store.Group == nil && ctx.Err() != nil
	for s.state.Step < r.Config.Steps && !stop {
		if ahead != nil {
			return sum, ahead
		}
		began := time.Now()
		hyper := s.Config.hyper(s.state.Step + 1)
		if err := s.trainer.Begin(hyper, ctx.Err() != nil); err != nil {
			return sum, err
		}
		s.state.Data = s.Data.State()
		ahead = s.stage() // while the device works
		stats, err := s.trainer.End()
		if err != nil {
			return sum, err
		}
		line := s.advance(stats, hyper.LR, time.Since(began))
		if !finite(stats.Loss) || !finite(stats.GradNorm) {
			return sum, &Diverged{Step: line.Step, Loss: stats.Loss, GradNorm: stats.GradNorm, Checkpoint: s.checkpoint}
		}

		last := line.Step == r.Config.Steps
		improved := false
		if every := r.Config.EvalEvery; r.Evaluate != nil && every > 0 && (last || line.Step%every == 0) {
			if line.Eval, improved, err = s.evaluate(ctx); err != nil {
				return sum, err
			}
		}
		if err := s.journal.write(line); err != nil {
			return sum, err
		}
		if stop = stats.Stop; r.Store.Group == nil { // a process alone need not agree with others
			stop = ctx.Err() != nil
		}
		every := r.Config.SaveEvery
		if last || improved || every > 0 && line.Step%every == 0 || stop {
			if err := s.save(); err != nil {
				return sum, err
			}
		}
	}
	return s.summary(), nil
}

// Diverged says that the loss, the gradient or the weights are no longer finite numbers. The weights of that step are
// not saved.
type Diverged struct {
	Step           int
	Loss, GradNorm float64
	Weights        error  // which weights are not finite, where that shows first
	Checkpoint     string // the last good one, empty if there is none
}

func (d *Diverged) Error() string {
	good := "no checkpoint was saved before"
	if d.Checkpoint != "" {
		good = "the last good checkpoint is " + d.Checkpoint
	}
	if d.Weights != nil {
		return fmt.Sprintf("train: step %d has loss %v and leaves weights that are not finite (%v); %s", d.Step,
			d.Loss, d.Weights, good)
	}
	return fmt.Sprintf("train: step %d has loss %v and gradient norm %v; %s", d.Step, d.Loss, d.GradNorm, good)
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
