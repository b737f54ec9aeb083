package model

import "headroom/attention"

// Counts are the sizes of a model by which comparisons are matched.
type Counts struct {
	Parameters int64 `json:"parameters"`
	// 6N + 6·L·C·T at the model's context T: forward and backward, causal
	TrainFLOPs    float64 `json:"train_flops_per_token"`
	CacheElements int     `json:"cache_elements"` // per token and layer; of layers that differ the mean, rounded up
}

// Count sizes the model.
func (t *Transformer) Count() Counts {
	elements := 0
	for i := range t.Config.Layers {
		elements += t.CacheLayout(i).Elements()
	}
	c := Counts{CacheElements: (elements + t.Config.Layers - 1) / t.Config.Layers}
	for _, p := range t.Params() {
		c.Parameters += int64(p.Size())
	}
	c.TrainFLOPs = TrainFLOPs(c.Parameters, t.Config.Layers, t.Config.Width, t.Config.Context)
	return c
}

// TrainFLOPs is the usual estimate of the operations of training on one token: 6 for each of N parameters, and
// 6·L·C·T for causal attention of L layers of width C over T tokens. It is a yardstick for speed, the same for every
// kind; ForwardFLOPs counts what a kind really does.
func TrainFLOPs(N int64, L, C, T int) float64 {
	return 6*float64(N) + 6*float64(L)*float64(C)*float64(T)
}

// ForwardFLOPs is the number of operations of the forward pass for one token of a sequence of T, on average: two for
// each weight of a product, and the scores and sums of causal attention at the kind's own head dimensions.
func (t *Transformer) ForwardFLOPs(T int) float64 {
	n := int64(t.Config.Vocab * t.Config.Width) // the head; the embedding is a look-up
	for _, p := range t.Params() {
		if p.Decay && p.Name != "embed" && p.Name != "head" { // a matrix: norms and biases do not decay
			n += int64(p.Size())
		}
	}
	columns := 0 // of all heads' queries and values
	for i := range t.Config.Layers {
		a := t.LayerAttention(i)
		s := a.Shape()
		columns += a.Heads * (s.Query + s.Value)
	}
	return 2*float64(n) + float64(columns)*float64(T+1)
}

// CacheLayout is what one token leaves in the cache of a layer.
func (t *Transformer) CacheLayout(layer int) attention.Layout {
	return t.blocks[layer].attn.CacheLayout()
}

// CacheBytes is the cache of one token in all layers, on one of devices tensor-parallel devices, kept as a type says.
func (t *Transformer) CacheBytes(devices int, c attention.CacheType) (n int) {
	for i := range t.Config.Layers {
		n += t.CacheLayout(i).Bytes(devices, c)
	}
	return n
}
