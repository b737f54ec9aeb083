package attention

import (
	"fmt"

	"headroom/internal/graph"
)

// groupedQuery is grouped-query attention: H query heads read G key and value heads, H/G each.
//
//	q = rope(x·Wq)   k = rope(x·Wk)   v = x·Wv
//	y = softmax(q·kᵀ/√D)·v · Wo
//
// With qk_norm, q and k are normed before they rotate (qknorm.go). MHA is G = H and MQA is G = 1. A token leaves its
// rotated keys and its values in the cache: 2·G·D elements. With tie_kv, v is k before it rotates (tie.go), there is no
// Wv, and a token leaves that alone: G·D elements.
type groupedQuery struct {
	Wq graph.Param  // [C, H·D]
	Wk graph.Param  // [C, G·D]
	Wv *graph.Param // [C, G·D]
	Wo graph.Param  // [H·D, C]

	norm queryKeyNorm
	gate *outputGate

	H, G, D, R int
	scale      float64
	rotary     graph.Rotary
	mask       graph.Mask
}

var groupedKeys = []string{"qk_norm", "tie_kv", "scale_dim"}

func mhaDefaults(c settings) {
	c.is("groups", &c.Groups, c.Heads, "heads")
	gqaDefaults(c)
}

func mqaDefaults(c settings) {
	c.is("groups", &c.Groups, 1, "one")
	gqaDefaults(c)
}

func gqaDefaults(c settings) { c.open("rope_dim", &c.RopeDim, c.HeadDim, "head_dim") }

func gqaCheck(c Config) error {
	if c.RopeDim > c.HeadDim {
		return fmt.Errorf("rope_dim %d is larger than head_dim %d", c.RopeDim, c.HeadDim)
	}
	return nil
}

func gqaShape(c Config) Shape {
	return Shape{Query: c.HeadDim, Value: c.HeadDim, P: c.HeadDim, Dv: c.HeadDim}
}

func newGQA(c Config, p Place, w weights, out graph.Param) Layer {
	C := p.Width
	a := &groupedQuery{
		Wq: w.matrix("Wq", C, c.Heads*c.HeadDim),
		Wk: w.matrix("Wk", C, c.Groups*c.HeadDim),
		Wo: out, norm: newQueryKeyNorm(c, p, w), gate: newGate(c, C, w),
		H: c.Heads, G: c.Groups, D: c.HeadDim, R: c.RopeDim, scale: c.scale(c.HeadDim), rotary: c.Rotary(),
		mask: c.mask(),
	}
	if !c.TieKV {
		v := w.matrix("Wv", C, c.Groups*c.HeadDim)
		a.Wv = &v
	}
	return a
}

func (a *groupedQuery) Params() []graph.Param {
	return list(&a.Wq, &a.Wk, a.Wv, a.norm.queries, a.norm.keys, &a.Wo, a.gate.param())
}

func (a *groupedQuery) Forward(b *graph.Builder, x *graph.Node) *graph.Node {
	q := b.Linear(x, b.Param(a.Wq), nil) // [B, T, H·D]
	k := b.Linear(x, b.Param(a.Wk), nil) // [B, T, G·D]
	q = b.Reshape(q, b.B, b.T, a.H, a.D) // [B, T, H, D]
	k = b.Reshape(k, b.B, b.T, a.G, a.D) // [B, T, G, D]
	q, k = a.norm.forward(b, q, k)
	v := k
	if a.Wv != nil {
		v = b.Linear(x, b.Param(*a.Wv), nil) // [B, T, G·D]
		v = b.Reshape(v, b.B, b.T, a.G, a.D) // [B, T, G, D]
	}
	q = b.Rope(q, a.R, a.rotary)
	k = b.Rope(k, a.R, a.rotary)
	o := b.Attend(q, k, v, a.mask, a.scale) // [B, T, H, D]
	o = b.Reshape(o, b.B, b.T, a.H*a.D)     // [B, T, H·D]
	o = a.gate.forward(b, o, x)             // [B, T, H·D]
	return b.Linear(o, b.Param(a.Wo), nil)  // [B, T, C]
}

func (a *groupedQuery) CacheLayout() Layout {
	if a.Wv == nil {
		return Layout{{"kv", a.G, a.D}}
	}
	return Layout{{"k", a.G, a.D}, {"v", a.G, a.D}}
}

func (a *groupedQuery) Decode(s Step, layer int, x graph.Buf) graph.Buf {
	read := CacheRead{H: a.H, P: a.D, Dv: a.D, Scale: a.scale, Window: a.mask.Window}
	q := s.Linear(x, a.Wq, nil) // [N, H·D]
	k := s.Linear(x, a.Wk, nil) // [N, G·D]
	var v graph.Buf
	if a.Wv != nil {
		v = s.Linear(x, *a.Wv, nil) // [N, G·D]
	}
	gate := a.gate.product(s, x)
	q, k = a.norm.decode(s, q, k)
	q = s.Rope(q, a.H, a.R, a.rotary)
	if a.Wv != nil {
		k = s.Rope(k, a.G, a.R, a.rotary)
		s.Append(layer, 0, k)
		s.Append(layer, 1, v)
		read.V = 1
	} else {
		s.Append(layer, 0, k)
		read.Turn, read.Rotary = a.R, a.rotary
	}
	o := s.Attend(layer, q, read)                         // [N, H·D]
	return s.Linear(a.gate.decode(s, o, gate), a.Wo, nil) // [N, C]
}
