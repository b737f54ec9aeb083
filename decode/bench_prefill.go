package decode

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"headroom/attention"
)

// A PrefillResult is how fast a batch of prompts gets its first tokens, through the engine.
type PrefillResult struct {
	Attention       string              `json:"attention"`
	Layers          int                 `json:"layers"`
	Width           int                 `json:"width"`
	Parameters      int64               `json:"parameters"`
	Device          string              `json:"device"`
	ElementBytes    int                 `json:"element_bytes"`
	Cache           attention.CacheType `json:"cache_type"`
	Batch           int                 `json:"batch"`
	Context         int                 `json:"context"`    // tokens of each prompt
	Millis          float64             `json:"prefill_ms"` // until the last prompt has its token, median
	TokensPerSecond float64             `json:"tokens_per_second"`
	TFLOPs          float64             `json:"tflop_per_second"`         // of what prompts need, with one row of logits each
	CeilingTFLOPs   float64             `json:"product_tflop_per_second"` // of one large product, in the same run
	CeilingShare    float64             `json:"share_of_product_ceiling"`
}

func (r PrefillResult) String() string {
	return fmt.Sprintf("%-7s B %3d S %6d: prompts %9.1f ms, %8.1f tokens/s, %.3g TFLOP/s, %.0f%% of a product's %.3g",
		r.Attention, r.Batch, r.Context, r.Millis, r.TokensPerSecond, r.TFLOPs, 100*r.CeilingShare, r.CeilingTFLOPs)
}

// prefillRuns are timed, after one that loads kernels.
const prefillRuns = 3

// BenchPrefill times batches of prompts of S random tokens on a backend. ceiling is the operations a second of a large
// product there.
func BenchPrefill(ctx context.Context, m *Model, on Backend, batch, S int, ceiling float64) (
	r PrefillResult, err error) {
	r = PrefillResult{
		Attention: m.Attention.Name(), Layers: m.Config.Layers, Width: m.Config.Width, Parameters: m.Count().Parameters,
		Device:       on.Name(),
		ElementBytes: on.ElementBytes(), Cache: on.Cache(), Batch: batch, Context: S, CeilingTFLOPs: ceiling / 1e12,
	}
	longer := m.withContext(S + 1)
	e, err := Open(longer, on, Options{Pages: batch * PagesFor(S+1), Rows: batch, Chunk: min(batch*S, on.Chunk())})
	if err != nil {
		return r, err
	}
	defer func() {
		if closing := e.Close(); err == nil {
			err = closing
		}
	}()
	random := rand.New(rand.NewPCG(1, 1))
	var times []float64
	for i := range 1 + prefillRuns {
		start := time.Now()
		for range batch {
			prompt := make([]int32, S) // never one that was there before
			for j := range prompt {
				prompt[j] = int32(random.IntN(m.Config.Vocab))
			}
			if _, err := e.Submit(Request{Prompt: prompt, MaxTokens: 1}); err != nil {
				return r, err
			}
		}
		for e.Busy() {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			if err := e.Step(); err != nil {
				return r, err
			}
		}
		if i > 0 {
			times = append(times, time.Since(start).Seconds()*1e3)
		}
	}
	slices.Sort(times)
	r.Millis = times[len(times)/2]
	head := 2 * float64(m.Config.Vocab) * float64(m.Config.Width)
	operations := float64(batch) * (float64(S)*(m.ForwardFLOPs(S)-head) + head)
	r.TokensPerSecond = float64(batch*S) / r.Millis * 1e3
	r.TFLOPs = operations / r.Millis / 1e9
	r.CeilingShare = r.TFLOPs / r.CeilingTFLOPs
	return r, nil
}
