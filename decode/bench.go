package decode

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A BenchResult is the decode speed of a model at one batch and context: greedy steps through the engine, end to end.
type BenchResult struct {
	Attention       string  `json:"attention"`
	Layers          int     `json:"layers"`
	Width           int     `json:"width"`
	Parameters      int64   `json:"parameters"`
	Batch           int     `json:"batch"`
	Context         int     `json:"context"`
	FirstMillis     float64 `json:"first_token_ms"` // of one request: its whole prompt, and a token
	TokenMillis     float64 `json:"token_ms"`       // a step: a token for every request, median
	TokensPerSecond float64 `json:"tokens_per_second"`
	WeightBytes     int64   `json:"weight_bytes"`
	CacheBytes      int64   `json:"cache_bytes"` // of the batch, as the layout says
	StepBytes       int64   `json:"step_bytes"`  // weights and cache, each read once
	CeilingBytes    float64 `json:"ceiling_bytes_per_second"`
	CeilingShare    float64 `json:"ceiling_share"`   // of the bandwidth of a large copy in the same run
	AvailableBytes  int64   `json:"available_bytes"` // beside the weights
	LargestBatch    int     `json:"largest_batch"`   // at this context, in what is available
}

func (r BenchResult) String() string {
	return fmt.Sprintf("%-7s B %3d S %6d: first token %9.1f ms, step %8.2f ms, %8.1f tokens/s, weights %.1f MiB, cache %.1f MiB, %.0f%% of a copy's %.1f GB/s, largest batch %d",
		r.Attention, r.Batch, r.Context, r.FirstMillis, r.TokenMillis, r.TokensPerSecond, float64(r.WeightBytes)/(1<<20), float64(r.CacheBytes)/(1<<20),
		100*r.CeilingShare, r.CeilingBytes/1e9, r.LargestBatch)
}

// Bench times steps of a batch of requests, each with S tokens in a cache of random content.
func Bench(ctx context.Context, m *Model, batch, S, steps int, ceiling float64) (BenchResult, error) {
	r := BenchResult{
		Attention: m.Attention.Name(), Layers: m.Config.Layers, Width: m.Config.Width, Parameters: m.Count().Parameters,
		Batch: batch, Context: S, WeightBytes: m.WeightBytes(4), CacheBytes: int64(batch) * int64(S) * int64(m.CacheBytes(1, 4)),
		CeilingBytes: ceiling, AvailableBytes: Available(),
	}
	most := S + warm + steps + 1
	r.LargestBatch = Fit(m.Transformer, r.AvailableBytes, 4).Batch(S)
	if batch > r.LargestBatch && r.AvailableBytes > 0 {
		return r, fmt.Errorf("decode: %d requests of %d tokens need %d MiB of cache, %d MiB are available: the largest batch is %d",
			batch, S, r.CacheBytes>>20, r.AvailableBytes>>20, r.LargestBatch)
	}
	longer := *m
	tr := *m.Transformer
	tr.Config.Context = most + 1
	longer.Transformer = &tr
	pages := batch * pagesFor(most)
	d := NewCPU(m, pages)
	random := rand.New(rand.NewPCG(1, 1))
	d.fill(random)
	e, err := NewEngine(&longer, d, Options{Pages: pages, Rows: batch, EndOfText: -1})
	if err != nil {
		return r, err
	}
	prompt := func() []int32 {
		x := make([]int32, S)
		for i := range x {
			x[i] = int32(random.IntN(m.Config.Vocab))
		}
		return x
	}
	if r.FirstMillis, err = timeFirst(ctx, e, prompt()); err != nil {
		return r, err
	}
	for range batch {
		if _, err := e.Submit(Request{Prompt: prompt(), MaxTokens: warm + steps + 1}); err != nil {
			return r, err
		}
	}
	e.admit()
	for _, s := range e.running {
		s.cached = S - 1 // the cache is full of random numbers already
	}
	if r.TokenMillis, err = timeSteps(ctx, e, steps); err != nil {
		return r, err
	}
	r.TokensPerSecond = float64(batch) / r.TokenMillis * 1e3
	r.StepBytes = r.WeightBytes + r.CacheBytes
	r.CeilingShare = float64(r.StepBytes) / (r.TokenMillis / 1e3) / ceiling
	return r, nil
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

// fill gives the whole cache random content.
func (c *CPU) fill(r *rand.Rand) {
	var block [4096]float32
	for i := range block {
		block[i] = float32(r.NormFloat64())
	}
	for _, slots := range c.cache {
		for _, s := range slots {
			for at := 0; at < len(s.data); at += len(block) {
				copy(s.data[at:], block[:])
			}
		}
	}
}

// Bandwidth is the bytes a second, read and written, of a large copy by all cores.
func Bandwidth() float64 {
	const words = 32 << 20
	from, to := make([]float32, words), make([]float32, words)
	for i := range from {
		from[i] = float32(i)
	}
	var best float64
	for range 4 {
		start := time.Now()
		parallel(words, func(lo, hi int) { copy(to[lo:hi], from[lo:hi]) })
		best = max(best, 8*words/time.Since(start).Seconds())
	}
	return best
}

// Available is the bytes of memory that the system can give without swapping, 0 where it does not say.
func Available() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemAvailable:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}
