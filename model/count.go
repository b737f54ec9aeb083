package model

import "headroom/attention"

// Counts are the sizes of a model by which comparisons are matched.
type Counts struct {
	Parameters int64 `json:"parameters"`
	// 6N + 6·L·C·T at the model's context T: forward and backward, causal, less where there are windows
	TrainFLOPs float64 `json:"train_flops_per_token"`
	// per token and layer: the mean over layers that differ and, since windows forget, over the model's context, rounded
	// up
	CacheElements int `json:"cache_elements"`
	CacheFP8      int `json:"cache_bytes_fp8"` // likewise
}

// Count sizes the model.
func (t *Transformer) Count() Counts {
	var c Counts
	var elements int64
	for i := range t.Config.Layers {
		elements += int64(attention.Kept(t.Config.Context, t.LayerAttention(i).Window) * t.CacheLayout(i).Elements())
	}
	tokens := int64(t.Config.Layers * t.Config.Context)
	mean := func(n int64) int { return int((n + tokens - 1) / tokens) }
	c.CacheElements, c.CacheFP8 = mean(elements), mean(t.RequestBytes(t.Config.Context, 1, attention.FP8))
	for _, p := range t.Params() {
		c.Parameters += int64(p.Size())
	}
	c.TrainFLOPs = trainFLOPs(c.Parameters, t, t.Config.Context)
	return c
}

// TrainFLOPs is the usual estimate of the operations of training on one token of a sequence of T: 6 for each parameter,
// and for each layer 12·C for each of the T/2 keys that a query reads on average, of which a window W leaves W - W²/2T.
// It is a yardstick for speed, the same for every kind; ForwardFLOPs counts what a kind really does.
func (t *Transformer) TrainFLOPs(T int) float64 { return trainFLOPs(t.Count().Parameters, t, T) }

func trainFLOPs(N int64, t *Transformer, T int) float64 {
	keys := 0.0
	for i := range t.Config.Layers {
		read := float64(attention.Kept(T, t.LayerAttention(i).Window))
		keys += read - read*read/(2*float64(T))
	}
	return 6*float64(N) + 12*float64(t.Config.Width)*keys
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
	var attended int64 // by all heads' queries and values, over the sequence
	for i := range t.Config.Layers {
		a := t.LayerAttention(i)
		s := a.Shape()
		attended += int64(a.Reads()*(s.Query+s.Value)) * 2 * attention.Keys(T, a.Window)
		n += a.Expansions()
	}
	return 2*float64(n) + float64(attended)/float64(T)
}

// CacheLayout is what one token leaves in the cache of a layer.
func (t *Transformer) CacheLayout(layer int) attention.Layout {
	return t.blocks[layer].attn.CacheLayout()
}

// CacheBytes is the cache of one token in all layers, as long as no window has left it behind, on one of devices
// tensor-parallel devices, kept as a type says.
func (t *Transformer) CacheBytes(devices int, c attention.CacheType) (n int) {
	for i := range t.Config.Layers {
		n += t.CacheLayout(i).Bytes(devices, c)
	}
	return n
}

// RequestBytes is the cache of one request of T tokens in all layers, on one of devices tensor-parallel devices, kept
// as a type says: a layer with a window keeps no more tokens than that.
func (t *Transformer) RequestBytes(T, devices int, c attention.CacheType) (n int64) {
	for i := range t.Config.Layers {
		n += int64(attention.Kept(T, t.LayerAttention(i).Window)) * int64(t.CacheLayout(i).Bytes(devices, c))
	}
	return n
}
