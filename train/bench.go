package train

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"headroom/attention"
	"headroom/internal/graph"
	"headroom/model"
)

// A BenchCase is a model and a batch whose training step is timed.
type BenchCase struct {
	Model     model.Config
	Attention attention.Config
	Batch     int
	Context   int
}

// BenchCases are the four that this project is measured by on a CPU: two kinds in two sizes, on a byte vocabulary.
func BenchCases() []BenchCase {
	var cases []BenchCase
	for _, size := range []struct{ layers, width, heads, mlp, batch, context int }{{4, 128, 4, 384, 16, 256}, {6, 256, 8, 688, 8, 512}} {
		m := model.Default()
		m.Layers, m.Width, m.MLP, m.Vocab, m.Context = size.layers, size.width, size.mlp, 256, size.context
		for _, kind := range []attention.Config{{Kind: attention.GQA, Groups: 4}, {Kind: attention.GLA, Groups: 2}} {
			a := attention.Default()
			a.Kind, a.Groups, a.Heads, a.HeadDim = kind.Kind, kind.Groups, size.heads, size.width/size.heads
			cases = append(cases, BenchCase{Model: m, Attention: a, Batch: size.batch, Context: size.context})
		}
	}
	return cases
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
	Parameters      int     `json:"parameters"`
	StepMillis      float64 `json:"step_ms"` // median
	TokensPerSecond float64 `json:"tokens_per_second"`
	ArenaBytes      int     `json:"arena_bytes"`           // activations, as planned
	UnplannedBytes  int     `json:"arena_unplanned_bytes"` // and without planning
}

// Bench times steps optimizer steps of a case, after two to warm up.
func Bench(ctx context.Context, backend graph.Backend, c BenchCase, steps int) (r BenchResult, err error) {
	if r, err = c.run(ctx, backend, steps); err != nil {
		return r, fmt.Errorf("train: bench %s: %w", c.Attention.Name(), err)
	}
	return r, nil
}

func (c BenchCase) run(ctx context.Context, backend graph.Backend, steps int) (r BenchResult, err error) {
	m, err := model.New(c.Model, c.Attention)
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
	B, T := c.Batch, c.Context
	tr, err := graph.NewTrainer(store, B, T, 1, func(b *graph.Builder) *graph.Node {
		return m.Loss(b, b.Tokens("tokens"), b.Tokens("targets"), 0)
	})
	if err != nil {
		return r, err
	}
	defer tr.Close()
	times, err := timeSteps(ctx, tr, c.random(), steps)
	if err != nil {
		return r, err
	}
	median, arena := times[len(times)/2], tr.Arena()
	r = BenchResult{
		Attention: c.Attention.Name(), Layers: c.Model.Layers, Width: c.Model.Width, Heads: c.Attention.Heads, MLP: c.Model.MLP,
		Vocab: c.Model.Vocab, Batch: B, Context: T, StepMillis: median.Seconds() * 1e3,
		TokensPerSecond: float64(B*T) / median.Seconds(), ArenaBytes: arena.Planned, UnplannedBytes: arena.Unplanned,
	}
	for _, p := range m.Params() {
		r.Parameters += p.Size()
	}
	return r, nil
}

// random is a batch of random tokens.
func (c BenchCase) random() []graph.Batch {
	r := rand.New(rand.NewPCG(1, 2))
	draw := func() []int32 {
		x := make([]int32, c.Batch*c.Context)
		for i := range x {
			x[i] = r.Int32N(int32(c.Model.Vocab))
		}
		return x
	}
	return []graph.Batch{{"tokens": draw(), "targets": draw()}}
}

// timeSteps returns the sorted times of steps. A step ends when its loss has been read, so that the device is done.
func timeSteps(ctx context.Context, tr *graph.Trainer, batch []graph.Batch, steps int) ([]time.Duration, error) {
	const warmUp = 2
	if steps < 1 {
		return nil, fmt.Errorf("steps must be at least 1, not %d", steps)
	}
	c := Default()
	var times []time.Duration
	for i := range warmUp + steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		began := time.Now()
		if _, err := tr.Step(batch, c.hyper(i+1)); err != nil {
			return nil, err
		}
		if i >= warmUp {
			times = append(times, time.Since(began))
		}
	}
	slices.Sort(times)
	return times, nil
}
