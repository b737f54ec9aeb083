package train

import (
	"cmp"
	"context"
	"errors"
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
	Documents int // tokens that the documents of a row have on average, within which attention stays; 0: all of the row
}

// benchSize is a model and a batch in one line.
type benchSize struct{ layers, width, heads, headDim, mlp, vocab, batch, context int }

func (s benchSize) with(name string) (c BenchCase, err error) {
	a := attention.Default()
	a.Heads, a.HeadDim = s.heads, s.headDim
	if s.vocab > 256 { // as published measurements of these shapes have it
		a.QueryLatentDim, a.Bias = s.width/2, "none"
	}
	a.Kind, a.Groups, err = attention.Parse(name)
	m := model.Default()
	m.Layers, m.Width, m.MLP, m.Vocab, m.Context = s.layers, s.width, s.mlp, s.vocab, s.context
	return BenchCase{Model: m, Attention: a, Batch: s.batch, Context: s.context}, err
}

// BenchOptions change what is measured. What is 0 or empty stays as the table has it.
type BenchOptions struct {
	Kinds             []string // in the smaller size alone
	Batch, Context    int
	Window, Documents int // every case again: in windows of so many keys, within documents of so many tokens
}

// BenchCases are those that this project is measured by: on a CPU two kinds in two sizes, on a byte vocabulary; on a
// GPU four kinds at about 180M parameters and two at about 800M, on a vocabulary of 128,256.
func BenchCases(device string, o BenchOptions) (cases []BenchCase, err error) {
	if o.Batch < 0 || o.Context < 0 || o.Window < 0 || o.Documents < 0 {
		return nil, fmt.Errorf("bench: batch, context, window and documents must not be negative, they are %d, %d, %d and %d",
			o.Batch, o.Context, o.Window, o.Documents)
	}
	add := func(s benchSize, kinds ...string) {
		s.batch, s.context = cmp.Or(o.Batch, s.batch), cmp.Or(o.Context, s.context)
		for _, kind := range kinds {
			c, bad := s.with(kind)
			err = errors.Join(err, bad)
			cases = append(cases, c.again(o)...)
		}
	}
	small, large := benchSize{4, 128, 4, 32, 384, 256, 16, 256}, benchSize{6, 256, 8, 32, 688, 256, 8, 512}
	kinds, both := []string{"gqa-4", "gla-2"}, []string{"gqa-4", "gla-2"}
	if device != "cpu" {
		small = benchSize{12, 768, 12, 64, 2048, 128256, 16, 2048}
		large = benchSize{24, 1536, 24, 64, 4096, 128256, 8, 2048}
		kinds = []string{"gqa-4", "gta-4", "mla", "gla-2"}
	}
	if len(o.Kinds) > 0 {
		kinds, both = o.Kinds, nil
	}
	add(small, kinds...)
	add(large, both...)
	return cases, err
}

// again is a case, and the same in a window and within documents where they are asked for.
func (c BenchCase) again(o BenchOptions) []BenchCase {
	cases := []BenchCase{c}
	if o.Window > 0 {
		masked := c
		masked.Attention.Window = o.Window
		cases = append(cases, masked)
	}
	if o.Documents > 0 {
		masked := c
		masked.Documents = o.Documents
		cases = append(cases, masked)
	}
	return cases
}

// A BenchResult is the speed and memory of one case: forward, backward, clipping and AdamW on random tokens.
type BenchResult struct {
	Attention       string             `json:"attention"`
	Layers          int                `json:"layers"`
	Width           int                `json:"width"`
	Heads           int                `json:"heads"`
	MLP             int                `json:"mlp"`
	Vocab           int                `json:"vocab"`
	Batch           int                `json:"batch"`
	Context         int                `json:"context"`
	Window          int                `json:"window,omitempty"`    // keys that a query reads
	Documents       int                `json:"documents,omitempty"` // mean length of those that attention stays within
	Device          string             `json:"device"`
	Precision       string             `json:"precision"`
	Parameters      int64              `json:"parameters"`
	StepMillis      float64            `json:"step_ms"` // median
	TokensPerSecond float64            `json:"tokens_per_second"`
	TFLOPs          float64            `json:"tflop_per_second"`         // by 6N + 6·L·C·T a token
	OwnTFLOPs       float64            `json:"own_tflop_per_second"`     // by thrice the forward pass of the kind itself
	CeilingTFLOPs   float64            `json:"product_tflop_per_second"` // of one large product, in the same run
	CeilingShare    float64            `json:"share_of_product_ceiling"` // TFLOPs / CeilingTFLOPs
	MemoryBytes     int                `json:"memory_bytes"`             // of the device, taken at the end of the case
	ArenaBytes      int                `json:"arena_bytes"`              // activations, as planned
	UnplannedBytes  int                `json:"arena_unplanned_bytes"`    // and without planning
	KernelMillis    map[string]float64 `json:"kernel_ms"`                // by kind of op, each kernel timed on its own
}

// Bench times steps optimizer steps of a case, after two to warm up.
func Bench(ctx context.Context, backend graph.Backend, c BenchCase, steps int) (r BenchResult, err error) {
	if r, err = c.run(ctx, backend, steps); err == nil {
		r.CeilingTFLOPs, err = backend.ProductCeiling()
		r.CeilingTFLOPs /= 1e12
		r.CeilingShare = r.TFLOPs / r.CeilingTFLOPs
	}
	if err != nil {
		return r, fmt.Errorf("train: bench %s: %w", c.Attention.Name(), err)
	}
	return r, nil
}

// open compiles the training step of a case for use.
func (c BenchCase) open(backend graph.Backend, use func(*model.Transformer, *graph.Trainer) error) error {
	m, err := model.New(c.Model, c.Attention)
	if err != nil {
		return err
	}
	store, err := graph.NewStore(backend, m.Params())
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Init(1); err != nil {
		return err
	}
	tr, err := graph.NewTrainer(store, c.Batch, c.Context, 1, func(b *graph.Builder) *graph.Node {
		b.Documents = c.Documents > 0
		return m.Loss(b, b.Tokens("tokens"), b.Tokens("targets"), 0)
	})
	if err != nil {
		return err
	}
	defer tr.Close()
	return use(m, tr)
}

func (c BenchCase) run(ctx context.Context, backend graph.Backend, steps int) (r BenchResult, err error) {
	return r, c.open(backend, func(m *model.Transformer, tr *graph.Trainer) error {
		times, err := timeSteps(ctx, tr, c.random(), steps)
		if err != nil {
			return err
		}
		B, T := c.Batch, c.Context
		median, arena := times[len(times)/2], tr.Arena()
		count := m.Count()
		flops := m.TrainFLOPs(T)
		r = BenchResult{
			Attention: c.Attention.Name(), Device: backend.Name(), Precision: backend.Activation().String(),
			Layers: c.Model.Layers, Width: c.Model.Width, Heads: c.Attention.Heads, MLP: c.Model.MLP,
			Vocab: c.Model.Vocab, Batch: B, Context: T, Window: c.Attention.Window, Documents: c.Documents,
			StepMillis:      median.Seconds() * 1e3,
			TokensPerSecond: float64(B*T) / median.Seconds(), ArenaBytes: arena.Planned, UnplannedBytes: arena.Unplanned,
		}
		r.Parameters = count.Parameters
		r.TFLOPs, r.OwnTFLOPs = flops*r.TokensPerSecond/1e12, 3*m.ForwardFLOPs(T)*r.TokensPerSecond/1e12
		if r.MemoryBytes, err = backend.Used(); err != nil {
			return err
		}
		r.KernelMillis, err = profile(tr)
		return err
	})
}

// profile is the time of a step's kernels by kind.
func profile(tr *graph.Trainer) (map[string]float64, error) {
	times, err := tr.Profile()
	millis := map[string]float64{}
	for kind, t := range times {
		millis[kind] = t.Seconds() * 1e3
	}
	return millis, err
}

// random is a batch of random tokens, and of documents whose lengths are drawn from 1 to twice the mean.
func (c BenchCase) random() []graph.Batch {
	r := rand.New(rand.NewPCG(1, 2))
	draw := func() []int32 {
		x := make([]int32, c.Batch*c.Context)
		for i := range x {
			x[i] = r.Int32N(int32(c.Model.Vocab))
		}
		return x
	}
	batch := graph.Batch{"tokens": draw(), "targets": draw()}
	if c.Documents > 0 {
		starts := make([]int32, c.Batch*c.Context)
		for start, end, i := 0, 0, 0; i < len(starts); i++ {
			at := i % c.Context
			if at == 0 || at == end {
				start, end = at, at+1+r.IntN(2*c.Documents-1)
			}
			starts[i] = int32(start)
		}
		batch[graph.Documents] = starts
	}
	return []graph.Batch{batch}
}

// timeSteps returns the sorted times of steps, made as Train makes them: the next batch on its way while a step runs. A
// step ends when its loss has been read, so that the device is done.
func timeSteps(ctx context.Context, tr *graph.Trainer, batch []graph.Batch, steps int) ([]time.Duration, error) {
	const warmUp = 2
	if steps < 1 {
		return nil, fmt.Errorf("steps must be at least 1, not %d", steps)
	}
	c := Default()
	var times []time.Duration
	if err := tr.Stage(batch); err != nil {
		return nil, err
	}
	for i := range warmUp + steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := tr.Begin(c.hyper(i+1), false); err != nil {
			return nil, err
		}
		if err := tr.Stage(batch); err != nil {
			return nil, err
		}
		if _, err := tr.End(); err != nil {
			return nil, err
		}
		if i >= warmUp {
			times = append(times, time.Since(began))
		}
	}
	slices.Sort(times)
	return times, nil
}
