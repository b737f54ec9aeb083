package attention

import (
	"fmt"
	"math"

	"headroom/internal/graph"
)

// groupedTied is grouped-tied attention: key and value of a head are one state, and the position is carried by R extra
// columns of the key that all heads share.
//
//	q = rope(x·Wq), the last R columns of each head
//	kv = x·Wkv       kr = rope(x·Wkr + bkr)
//	k = [ first D-R columns of kv | kr ]   v = kv, all D columns, never rotated
//	y = softmax(q·kᵀ/√D)·v · Wo
//
// A token leaves the tied state and one rotated rope key in the cache: G·D + R elements, about half of GQA's.
type groupedTied struct {
	Wq  graph.Param  // [C, H·D]
	Wkv graph.Param  // [C, G·D]
	Wkr graph.Param  // [C, R]
	bkr *graph.Param // [R]
	Wo  graph.Param  // [H·D, C]

	gate       *outputGate
	H, G, D, R int
	rotary     graph.Rotary
	mask       graph.Mask
}

func gtaDefaults(c settings) { c.open("rope_dim", &c.RopeDim, c.HeadDim/2, "head_dim / 2") }

func gtaCheck(c Config) error {
	if c.RopeDim > c.HeadDim {
		return fmt.Errorf("rope_dim %d is larger than head_dim %d", c.RopeDim, c.HeadDim)
	}
	return nil
}

func gtaShape(c Config) Shape {
	return Shape{Query: c.HeadDim, Value: c.HeadDim, P: c.HeadDim - c.RopeDim, R: c.RopeDim, Dv: c.HeadDim}
}

func newGTA(c Config, p Place, w weights, out graph.Param) Layer {
	C := p.Width
	return &groupedTied{
		Wq:   w.matrix("Wq", C, c.Heads*c.HeadDim),
		Wkv:  w.matrix("Wkv", C, c.Groups*c.HeadDim),
		Wkr:  w.matrix("Wkr", C, c.RopeDim),
		bkr:  w.bias(c, "bkr", c.RopeDim),
		Wo:   out,
		gate: newGate(c, C, w),
		H:    c.Heads, G: c.Groups, D: c.HeadDim, R: c.RopeDim, rotary: c.Rotary(), mask: c.mask(),
	}
}

func (a *groupedTied) Params() []graph.Param {
	return list(&a.Wq, &a.Wkv, &a.Wkr, a.bkr, &a.Wo, a.gate.param())
}

func (a *groupedTied) Forward(b *graph.Builder, x *graph.Node) *graph.Node {
	q := b.Linear(x, b.Param(a.Wq), nil)                  // [B, T, H·D]
	kv := b.Linear(x, b.Param(a.Wkv), nil)                // [B, T, G·D]
	kr := b.Linear(x, b.Param(a.Wkr), optional(b, a.bkr)) // [B, T, R]
	q = b.Reshape(q, b.B, b.T, a.H, a.D)                  // [B, T, H, D]
	kv = b.Reshape(kv, b.B, b.T, a.G, a.D)                // [B, T, G, D]
	kr = b.Reshape(kr, b.B, b.T, 1, a.R)                  // [B, T, 1, R]
	q = b.Rope(q, a.R, a.rotary)
	kr = b.Rope(kr, a.R, a.rotary)
	o := b.AttendShared(q, kv, kr, a.D-a.R, 0, a.D, a.mask, 1/math.Sqrt(float64(a.D))) // [B, T, H, D]
	o = b.Reshape(o, b.B, b.T, a.H*a.D)                                                // [B, T, H·D]
	o = a.gate.forward(b, o, x)                                                        // [B, T, H·D]
	return b.Linear(o, b.Param(a.Wo), nil)                                             // [B, T, C]
}

func (a *groupedTied) CacheLayout() Layout {
	return Layout{{"kv", a.G, a.D}, {RopeKey, 1, a.R}}
}

func (a *groupedTied) Decode(s Step, layer int, x graph.Buf) graph.Buf {
	q := s.Linear(x, a.Wq, nil)     // [N, H·D]
	kv := s.Linear(x, a.Wkv, nil)   // [N, G·D]
	kr := s.Linear(x, a.Wkr, a.bkr) // [N, R]
	gate := a.gate.product(s, x)
	q = s.Rope(q, a.H, a.R, a.rotary)
	kr = s.Rope(kr, 1, a.R, a.rotary)
	s.Append(layer, 0, kv)
	s.Append(layer, 1, kr)
	read := CacheRead{H: a.H, P: a.D - a.R, R: a.R, Dv: a.D, K: 0, V: 0, KRope: 1, Scale: 1 / math.Sqrt(float64(a.D)),
		Window: a.mask.Window}
	o := a.gate.decode(s, s.Attend(layer, q, read), gate) // [N, H·D]
	return s.Linear(o, a.Wo, nil)                         // [N, C]
}
