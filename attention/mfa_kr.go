package attention

import (
	"math"

	"headroom/internal/graph"
)

// keyReuse is multi-matrix factorization attention with key reuse (MFA-KR, arXiv 2412.19255): MFA whose values are made
// of its keys as they are before the rotation, so that the keys alone are cached.
//
//	cq = rmsnorm(x·Wdq)   q = rope(cq·Wuq)
//	u = x·Wk, one head   k = rope(u)   v = u + α ⊙ (u·Wn)
//	y = softmax(q·kᵀ/√D)·v · Wo
//
// The paper has S_V = S_K + α ⊙ N·S_K = (I + diag(α)·N)·S_K for columns, with N [D, D] and α [D]: N is Wn here, seen by
// rows, and α, which begins at zero, is gainv. In training v is made of each token; in decoding, since it is linear in
// u, of the sums that each head has of u: o·(I + Wn·diag(α)). So a token leaves u in the cache: D elements, a half of
// MFA's, and what is read is rotated for the scores.
//
// The paper does not say how N begins, nor in which order the rotation and the value are made: N begins as other
// weights here, and S_V maps tokens and not positions. It applies to rotations of R < D columns too. The norm of the
// query latent is that of MFA, from the authors' model; of this one they published none.
type keyReuse struct {
	Wdq   graph.Param // [C, Q]
	normq graph.Param // [Q]
	Wuq   graph.Param // [Q, H·D]
	Wk    graph.Param // [C, D]
	Wn    graph.Param // [D, D]
	gainv graph.Param // [D]
	Wo    graph.Param // [H·D, C]

	gate    *outputGate
	H, D, R int
	rotary  graph.Rotary
	mask    graph.Mask
	eps     float64
}

func newMFAKR(c Config, p Place, w weights, out graph.Param) Layer {
	C, Q := p.Width, c.QueryLatentDim
	return &keyReuse{
		Wdq:   w.matrix("Wdq", C, Q),
		normq: w.norm("normq", Q),
		Wuq:   w.matrix("Wuq", Q, c.Heads*c.HeadDim),
		Wk:    w.matrix("Wk", C, c.HeadDim),
		Wn:    w.matrix("Wn", c.HeadDim, c.HeadDim),
		gainv: w.gain("gainv", c.HeadDim),
		Wo:    out, gate: newGate(c, C, w),
		H: c.Heads, D: c.HeadDim, R: c.RopeDim, rotary: c.Rotary(), mask: c.mask(), eps: p.NormEps,
	}
}

func (a *keyReuse) Params() []graph.Param {
	return list(&a.Wdq, &a.normq, &a.Wuq, &a.Wk, &a.Wn, &a.gainv, &a.Wo, a.gate.param())
}

func (a *keyReuse) Forward(b *graph.Builder, x *graph.Node) *graph.Node {
	cq := b.Linear(x, b.Param(a.Wdq), nil) // [B, T, Q]
	cq = b.RMSNorm(cq, b.Param(a.normq), a.eps)
	q := b.Linear(cq, b.Param(a.Wuq), nil)                                 // [B, T, H·D]
	u := b.Linear(x, b.Param(a.Wk), nil)                                   // [B, T, D]
	v := b.AddScaled(u, b.Linear(u, b.Param(a.Wn), nil), b.Param(a.gainv)) // [B, T, D]
	q = b.Reshape(q, b.B, b.T, a.H, a.D)                                   // [B, T, H, D]
	k := b.Reshape(u, b.B, b.T, 1, a.D)                                    // [B, T, 1, D]
	v = b.Reshape(v, b.B, b.T, 1, a.D)                                     // [B, T, 1, D]
	q = b.Rope(q, a.R, a.rotary)
	k = b.Rope(k, a.R, a.rotary)
	o := b.Attend(q, k, v, a.mask, 1/math.Sqrt(float64(a.D))) // [B, T, H, D]
	o = b.Reshape(o, b.B, b.T, a.H*a.D)                       // [B, T, H·D]
	o = a.gate.forward(b, o, x)                               // [B, T, H·D]
	return b.Linear(o, b.Param(a.Wo), nil)                    // [B, T, C]
}

func (a *keyReuse) CacheLayout() Layout {
	return Layout{{"k", 1, a.D}}
}

func (a *keyReuse) Decode(s Step, layer int, x graph.Buf) graph.Buf {
	cq := s.Linear(x, a.Wdq, nil) // [N, Q]
	cq = s.RMSNorm(cq, a.normq, a.eps)
	q := s.Linear(cq, a.Wuq, nil) // [N, H·D]
	u := s.Linear(x, a.Wk, nil)   // [N, D]
	gate := a.gate.product(s, x)
	q = s.Rope(q, a.H, a.R, a.rotary)
	s.Append(layer, 0, u)
	o := s.Attend(layer, q, CacheRead{H: a.H, P: a.D, Dv: a.D, Turn: a.R, Rotary: a.rotary,
		Scale: 1 / math.Sqrt(float64(a.D)), Window: a.mask.Window}) // [N, H·D]
	o = s.AddScaled(o, s.Linear(o, a.Wn, nil), a.gainv)   // [N, H·D]
	return s.Linear(a.gate.decode(s, o, gate), a.Wo, nil) // [N, C]
}
