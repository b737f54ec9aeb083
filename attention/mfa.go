package attention

import (
	"fmt"
	"math"

	"headroom/internal/graph"
)

// multiMatrix is multi-matrix factorization attention ("Multi-matrix Factorization Attention", arXiv 2412.19255): all H
// query heads read one key and one value head, which may be wide, and the queries come from a latent that they share.
//
//	cq = rmsnorm(x·Wdq)   q = rope(cq·Wuq)
//	k = rope(x·Wk)   v = x·Wv, one head of each
//	y = softmax(q·kᵀ/√D)·v · Wo
//
// The paper's S_Q is Wdq, its Q_c are the columns of Wuq that make head c, S_K and S_V are Wk and Wv, and its O_c the
// rows of Wo of head c; it has one width for Q and D, which is the default. The norm is not in its formula, but in the
// model of its authors, Step-3, where Q is 8·D. A head costs Q·D + D·C parameters and nothing in the cache. A token
// leaves its rotated key and its value in the cache: 2·D elements.
type multiMatrix struct {
	Wdq   graph.Param // [C, Q]
	normq graph.Param // [Q]
	Wuq   graph.Param // [Q, H·D]
	Wk    graph.Param // [C, D]
	Wv    graph.Param // [C, D]
	Wo    graph.Param // [H·D, C]

	norm queryKeyNorm
	gate *outputGate

	H, D, R int
	rotary  graph.Rotary
	mask    graph.Mask
	eps     float64
}

func mfaDefaults(c settings) {
	c.is("groups", &c.Groups, 1, "one")
	c.open("query_latent_dim", &c.QueryLatentDim, c.HeadDim, "head_dim")
	gqaDefaults(c)
}

func mfaCheck(c Config) error {
	if c.QueryLatentDim < 1 {
		return fmt.Errorf("query_latent_dim must be positive, it is %d", c.QueryLatentDim)
	}
	return gqaCheck(c)
}

func newMFA(c Config, p Place, w weights, out graph.Param) Layer {
	C, Q := p.Width, c.QueryLatentDim
	return &multiMatrix{
		Wdq:   w.matrix("Wdq", C, Q),
		normq: w.norm("normq", Q),
		Wuq:   w.matrix("Wuq", Q, c.Heads*c.HeadDim),
		Wk:    w.matrix("Wk", C, c.HeadDim),
		Wv:    w.matrix("Wv", C, c.HeadDim),
		Wo:    out, norm: newQueryKeyNorm(c, p, w), gate: newGate(c, C, w),
		H: c.Heads, D: c.HeadDim, R: c.RopeDim, rotary: c.Rotary(), mask: c.mask(), eps: p.NormEps,
	}
}

func (a *multiMatrix) Params() []graph.Param {
	return list(&a.Wdq, &a.normq, &a.Wuq, &a.Wk, &a.Wv, a.norm.queries, a.norm.keys, &a.Wo, a.gate.param())
}

func (a *multiMatrix) Forward(b *graph.Builder, x *graph.Node) *graph.Node {
	cq := b.Linear(x, b.Param(a.Wdq), nil) // [B, T, Q]
	cq = b.RMSNorm(cq, b.Param(a.normq), a.eps)
	q := b.Linear(cq, b.Param(a.Wuq), nil) // [B, T, H·D]
	k := b.Linear(x, b.Param(a.Wk), nil)   // [B, T, D]
	v := b.Linear(x, b.Param(a.Wv), nil)   // [B, T, D]
	q = b.Reshape(q, b.B, b.T, a.H, a.D)   // [B, T, H, D]
	k = b.Reshape(k, b.B, b.T, 1, a.D)     // [B, T, 1, D]
	v = b.Reshape(v, b.B, b.T, 1, a.D)     // [B, T, 1, D]
	q, k = a.norm.forward(b, q, k)
	q = b.Rope(q, a.R, a.rotary)
	k = b.Rope(k, a.R, a.rotary)
	o := b.Attend(q, k, v, a.mask, 1/math.Sqrt(float64(a.D))) // [B, T, H, D]
	o = b.Reshape(o, b.B, b.T, a.H*a.D)                       // [B, T, H·D]
	o = a.gate.forward(b, o, x)                               // [B, T, H·D]
	return b.Linear(o, b.Param(a.Wo), nil)                    // [B, T, C]
}

func (a *multiMatrix) CacheLayout() Layout {
	return Layout{{"k", 1, a.D}, {"v", 1, a.D}}
}

func (a *multiMatrix) Decode(s Step, layer int, x graph.Buf) graph.Buf {
	cq := s.Linear(x, a.Wdq, nil) // [N, Q]
	cq = s.RMSNorm(cq, a.normq, a.eps)
	q := s.Linear(cq, a.Wuq, nil) // [N, H·D]
	k := s.Linear(x, a.Wk, nil)   // [N, D]
	v := s.Linear(x, a.Wv, nil)   // [N, D]
	gate := a.gate.product(s, x)
	q, k = a.norm.decode(s, q, k)
	q = s.Rope(q, a.H, a.R, a.rotary)
	k = s.Rope(k, 1, a.R, a.rotary)
	s.Append(layer, 0, k)
	s.Append(layer, 1, v)
	// [N, H·D]
	o := s.Attend(layer, q, CacheRead{H: a.H, P: a.D, Dv: a.D, K: 0, V: 1, Scale: 1 / math.Sqrt(float64(a.D)),
		Window: a.mask.Window})
	return s.Linear(a.gate.decode(s, o, gate), a.Wo, nil) // [N, C]
}
