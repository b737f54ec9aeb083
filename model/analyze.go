package model

import (
	"errors"
	"fmt"

	"headroom/attention"
	"headroom/internal/roofline"
)

// An Analysis has the figures of a model that need no run.
type Analysis struct {
	Name      string              `json:"name"`
	Attention string              `json:"attention"`
	Cache     attention.CacheType `json:"cache_type"`
	Counts
	Window       int           `json:"window,omitempty"`        // of its window layers,
	WindowLayers int           `json:"window_layers,omitempty"` // and how many these are
	ForwardFLOPs float64       `json:"forward_flops_per_token"` // at the model's context
	LongContext  []float64     `json:"long_context_intensity"`  // operations per byte by Queries, as the context grows
	Shards       []ShardedPart `json:"devices"`
}

// A ShardedPart is what one of so many tensor-parallel devices has of the cache, and how it decodes against it.
type ShardedPart struct {
	Devices     int           `json:"devices"`
	CacheBytes  int           `json:"cache_bytes"` // per token and layer
	RowBytes    int64         `json:"row_bytes"`   // of one request of the context to decode in, in all layers
	Duplication int           `json:"duplication"` // devices that hold the same head
	Slots       []ShardedSlot `json:"slots"`
	Decode      []DecodeLimit `json:"decode"` // by Queries
}

// A ShardedSlot is one tensor of the cache on a device.
type ShardedSlot struct {
	Name       string `json:"name"`
	Heads      int    `json:"heads"` // on the device
	Dim        int    `json:"dim"`
	Replicated bool   `json:"replicated"` // other devices hold the same heads
}

// A DecodeLimit is the roofline's bound on attention that decodes a number of new tokens at once.
type DecodeLimit struct {
	Queries   int     `json:"queries"`
	Intensity float64 `json:"intensity"` // operations per byte, with rope, query and output
	FLOPs     float64 `json:"flops"`     // a second, at most
	Memory    bool    `json:"memory"`    // and memory is what limits it
}

// Queries are the query lengths of an Analysis, and Devices its tensor-parallel sizes.
var (
	Queries = []int{1, 2, 4}
	Devices = []int{1, 2, 4, 8}
)

// Analyze sizes a model and sets its decoding against a cache of S tokens, kept as a type says, under the roofline of a
// GPU. All else is bf16.
func (t *Transformer) Analyze(name string, gpu roofline.GPU, S int, cache attention.CacheType) (Analysis, error) {
	if err := cache.Validate(); err != nil {
		return Analysis{}, err
	}
	if S < 1 {
		return Analysis{}, fmt.Errorf("model: the context to decode in must be positive, it is %d", S)
	}
	if !t.Uniform() {
		return Analysis{}, errors.New("model: an analysis is of one kind of attention, and the layers of this model differ")
	}
	a, layout := t.Attention, t.CacheLayout(0)
	r := Analysis{Name: name, Attention: a.Name(), Cache: cache, Counts: t.Count(),
		ForwardFLOPs: t.ForwardFLOPs(t.Config.Context)}
	for i := range t.Config.Layers {
		if w := t.LayerAttention(i).Window; w > 0 {
			r.Window, r.WindowLayers = w, r.WindowLayers+1
		}
	}
	for _, q := range Queries {
		r.LongContext = append(r.LongContext, a.Intensity(q)*2/float64(cache.ElementBytes()))
	}
	for _, n := range Devices {
		part := ShardedPart{Devices: n, CacheBytes: layout.Bytes(n, cache), RowBytes: t.RequestBytes(S, n, cache),
			Duplication: a.Duplication(n)}
		for _, s := range layout {
			part.Slots = append(part.Slots, ShardedSlot{s.Name, (s.Heads + n - 1) / n, s.Dim, s.Replicated(n)})
		}
		for _, q := range Queries {
			var all attention.Work
			for layer := range t.Config.Layers {
				w := t.LayerAttention(layer).DecodeWork(layout, q, S, n, cache)
				all.FLOPs, all.Bytes = all.FLOPs+w.FLOPs, all.Bytes+w.Bytes
			}
			i := all.Intensity()
			part.Decode = append(part.Decode, DecodeLimit{q, i, gpu.Attainable(i), i < gpu.Ridge()})
		}
		r.Shards = append(r.Shards, part)
	}
	return r, nil
}
