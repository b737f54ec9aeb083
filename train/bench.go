package train

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"headroom/internal/graph"
	"headroom/model"
)

// A BenchCase is a model and a batch whose training step is timed.
type BenchCase struct {
	Name    string // of the attention: gqa-4
	Model   model.Config
	Batch   int
	Context int
}

// A BenchResult is the speed and memory of one case: forward, backward, clipping and AdamW on random tokens.
type BenchResult struct {
	Attention       string  `json:"attention"`
	Layers          int     `json:"layers"`
	Width           int     `json:"width"`
	Heads           int     `json:"heads"`
	MLP             int     `json:"mlp"`
	Vocab           int     `json:"vocab"`
	Batch           int     `json:"batch"`
	Context         int     `json:"context"`
	Parameters      int64   `json:"parameters"`
	Steps           int     `json:"steps"`
	StepMillis      float64 `json:"step_ms"` // median
	TokensPerSecond float64 `json:"tokens_per_second"`
	ArenaBytes      int     `json:"arena_bytes"`           // activations, as planned
	UnplannedBytes  int     `json:"arena_unplanned_bytes"` // and without planning
}

// Bench times steps optimizer steps of a case after two to warm up.
func Bench(ctx context.Context, backend graph.Backend, c BenchCase, steps int) (r BenchResult, err error) {
	m, err := model.New(c.Model)
	if err != nil {
		return r, err
	}
	store, err := graph.NewStore(backend, m.Params())
	if err != nil {
		return r, err
	}
	defer store.Close()
	if err := store.Init(1); err != nil {
		return r, err
	}
	tr, err := graph.NewTrainer(store, c.Batch, c.Context, 1, func(b *graph.Builder) *graph.Node {
		return m.Loss(b, b.Tokens("tokens"), b.Tokens("targets"), 0)
	})
	if err != nil {
		return r, err
	}
	defer tr.Close()

	times, err := timeSteps(ctx, tr, randomBatch(c), steps)
	if err != nil {
		return r, fmt.Errorf("train: bench %s: %w", c.Name, err)
	}
	median := times[len(times)/2]
	arena := tr.Arena()
	return BenchResult{
		Attention: c.Name, Layers: c.Model.Layers, Width: c.Model.Width, Heads: c.Model.Heads, MLP: c.Model.MLP, Vocab: c.Model.Vocab,
		Batch: c.Batch, Context: c.Context, Parameters: m.Count().Params, Steps: steps,
		StepMillis: median.Seconds() * 1e3, TokensPerSecond: float64(c.Batch*c.Context) / median.Seconds(),
		ArenaBytes: arena.Planned, UnplannedBytes: arena.Unplanned,
	}, nil
}

func randomBatch(c BenchCase) []graph.Batch {
	r := rand.New(rand.NewPCG(1, 2))
	tokens := make([]int32, c.Batch*c.Context)
	for i := range tokens {
		tokens[i] = r.Int32N(int32(c.Model.Vocab))
	}
	targets := slices.Clone(tokens)
	r.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	return []graph.Batch{{"tokens": tokens, "targets": targets}}
}

// timeSteps returns sorted times. A step ends when its loss has been read, so that the device is done.
func timeSteps(ctx context.Context, tr *graph.Trainer, batch []graph.Batch, steps int) ([]time.Duration, error) {
	const warmUp = 2
	config := Default()
	var times []time.Duration
	for i := range warmUp + steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		began := time.Now()
		if _, err := tr.Step(batch, config.hyper(i+1)); err != nil {
			return nil, err
		}
		if i >= warmUp {
			times = append(times, time.Since(began))
		}
	}
	slices.Sort(times)
	return times, nil
}
