package decode

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"headroom/attention"
)

// A BenchResult is the decode speed of a model at one batch and context: greedy steps through the engine, end to end.
type BenchResult struct {
	Attention       string              `json:"attention"`
	Layers          int                 `json:"layers"`
	Width           int                 `json:"width"`
	Parameters      int64               `json:"parameters"`
	Device          string              `json:"device"`
	ElementBytes    int                 `json:"element_bytes"` // of a weight
	Cache           attention.CacheType `json:"cache_type"`
	Batch           int                 `json:"batch"`
	Context         int                 `json:"context"`
	FirstMillis     float64             `json:"first_token_ms"` // of one request: its whole prompt, and a token
	TokenMillis     float64             `json:"token_ms"`       // a step: a token for every request, median
	TokensPerSecond float64             `json:"tokens_per_second"`
	WeightBytes     int64               `json:"weight_bytes"`
	CacheBytes      int64               `json:"cache_bytes"` // of the batch, as the layout says
	StepBytes       int64               `json:"step_bytes"`  // weights and cache, each read once
	CeilingBytes    float64             `json:"ceiling_bytes_per_second"`
	CeilingShare    float64             `json:"ceiling_share"`   // of the bandwidth of a large copy in the same run
	AvailableBytes  int64               `json:"available_bytes"` // beside the weights
	LargestBatch    int                 `json:"largest_batch"`   // at this context, in what is available
}

func (r BenchResult) String() string {
	return fmt.Sprintf("%-7s B %3d S %6d: first token %9.1f ms, step %8.2f ms, %8.1f tokens/s, weights %.1f MiB, cache "+
		"%.1f MiB in %s, %.0f%% of a copy's %.1f GB/s, largest batch %d",
		r.Attention, r.Batch, r.Context, r.FirstMillis, r.TokenMillis, r.TokensPerSecond, float64(r.WeightBytes)/(1<<20),
		float64(r.CacheBytes)/(1<<20), r.Cache,
		100*r.CeilingShare, r.CeilingBytes/1e9, r.LargestBatch)
}

// Bench times steps of a batch of requests on a backend, each with S tokens in a cache of random content. ceiling is
// the backend's Bandwidth.
func Bench(ctx context.Context, m *Model, on Backend, batch, S, steps int, ceiling float64) (r BenchResult, err error) {
	size := on.ElementBytes()
	r = BenchResult{
		Attention: m.Attention.Name(), Layers: m.Config.Layers, Width: m.Config.Width, Parameters: m.Count().Parameters,
		Device:       on.Name(),
		ElementBytes: size, Cache: on.Cache(), Batch: batch, Context: S, WeightBytes: m.WeightBytes(size),
		CeilingBytes: ceiling,
		CacheBytes:   int64(batch) * m.RequestBytes(S, 1, on.Cache()),
	}
	most := S + warm + steps + 2
	longer := m.withContext(most)
	o := Options{Pages: batch * PagesFor(most), Rows: batch, Chunk: min(S, on.Chunk())}
	limits, err := o.Limits(longer)
	if err != nil {
		return r, err
	}
	if r.AvailableBytes, err = on.Available(longer, limits); err != nil {
		return r, err
	}
	if r.LargestBatch, err = Largest(longer, on, o, S); err != nil {
		return r, err
	}
	if Fit(longer.Transformer, batch, r.AvailableBytes, on.Cache()).Batch(most) < batch && r.AvailableBytes > 0 {
		return r,
			fmt.Errorf("decode: %d requests of %d tokens need %d MiB of cache, %d MiB are available: the largest batch is %d",
				batch, S, r.CacheBytes>>20, r.AvailableBytes>>20, r.LargestBatch)
	}
	e, err := Open(longer, on, o)
	if err != nil {
		return r, err
	}
	defer func() {
		if closing := e.Close(); err == nil {
			err = closing
		}
	}()
	if err := e.device.Noise(1); err != nil {
		return r, err
	}
	return r, r.time(ctx, e, steps)
}

// withContext is the same model with another context.
func (m *Model) withContext(S int) *Model {
	other, t := *m, *m.Transformer
	t.Config.Context = S
	other.Transformer = &t
	return &other
}

// time fills in what the clock says.
func (r *BenchResult) time(ctx context.Context, e *Engine, steps int) (err error) {
	random := rand.New(rand.NewPCG(1, 1))
	prompt := func() []int32 {
		x := make([]int32, r.Context)
		for i := range x {
			x[i] = int32(random.IntN(e.model.Config.Vocab))
		}
		return x
	}
	for range 2 { // the first one also loads kernels
		if r.FirstMillis, err = timeFirst(ctx, e, prompt()); err != nil {
			return err
		}
	}
	for range r.Batch {
		if _, err := e.Submit(Request{Prompt: prompt(), MaxTokens: warm + steps + 2}); err != nil {
			return err
		}
	}
	e.Admit()
	for _, s := range e.running {
		s.cached = r.Context - 1 // the cache is full of random numbers already
		e.tails.leave(s, s.cached)
	}
	if r.TokenMillis, err = timeSteps(ctx, e, steps); err != nil {
		return err
	}
	r.TokensPerSecond = float64(r.Batch) / r.TokenMillis * 1e3
	r.StepBytes = r.WeightBytes + r.CacheBytes
	r.CeilingShare = float64(r.StepBytes) / (r.TokenMillis / 1e3) / r.CeilingBytes
	return nil
}

const warm = 2 // steps before the timed ones

// timeFirst is the milliseconds from a prompt to its first token.
func timeFirst(ctx context.Context, e *Engine, prompt []int32) (float64, error) {
	start := time.Now()
	s, err := e.Submit(Request{Prompt: prompt, MaxTokens: 1})
	for err == nil && s.Reason == Running {
		if err = ctx.Err(); err == nil {
			err = e.Step()
		}
	}
	return time.Since(start).Seconds() * 1e3, err
}

func timeSteps(ctx context.Context, e *Engine, steps int) (float64, error) {
	var times []float64
	for i := range warm + steps {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := e.Step(); err != nil {
			return 0, err
		}
		if i >= warm {
			times = append(times, time.Since(start).Seconds()*1e3)
		}
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}
