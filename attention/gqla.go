package attention

import (
	"math"

	"headroom/internal/graph"
)

// groupedQueryLatent is GQLA, group-query latent attention (arXiv 2605.15250): MLA whose latent is made into G heads of
// keys and values, where MLA makes H; H/G query heads read each. One rope key of R dims serves all.
//
//	cq = rmsnorm(x·Wdq + bdq)       q = rope(cq·Wuq + buq), the last R of each head's D+R
//	c  = rmsnorm(x·Wdkv + bdkv)     kr = rope(x·Wkr + bkr)
//	[ k | v ] of each of the G = c·Wukv + bukv     k = [ k | kr ]
//	y = softmax(q·kᵀ/√(D+R))·v · Wo
//
// The same weights decode in two ways: absorbed, where a token leaves its normalised latent and one rotated rope key in
// the cache, L + R elements, as MLA's does; or with the G heads of keys and values in the cache, 2·G·D + R elements,
// which devices can divide. Here they decode absorbed. The authors' published code converts trained MLA models and has
// no biases; bias: paper puts them where MLA has them here, so that the two differ in nothing but G.
type groupedQueryLatent struct {
	Wdq    graph.Param  // [C, Q]
	bdq    *graph.Param // [Q]
	normq  graph.Param  // [Q]
	Wuq    graph.Param  // [Q, H·(D+R)]
	buq    *graph.Param // [H·(D+R)]
	Wdkv   graph.Param  // [C, L]
	bdkv   *graph.Param // [L]
	normkv graph.Param  // [L]
	Wkr    graph.Param  // [C, R]
	bkr    *graph.Param // [R]
	Wukv   graph.Param  // [1, L, G·2D], per head [ k | v ]
	bukv   *graph.Param // [1, G·2D]
	Wo     graph.Param  // [H·D, C]

	gate             *outputGate
	H, G, D, R, L, Q int
	rotary           graph.Rotary
	mask             graph.Mask
	eps              float64
}

func gqlaDefaults(c settings) {
	c.open("latent_dim", &c.LatentDim, 4*c.HeadDim, "4 x head_dim")
	glaDefaults(c)
}

func newGQLA(c Config, p Place, w weights, out graph.Param) Layer {
	C := p.Width
	H, G, D, R, L, Q := c.Heads, c.Groups, c.HeadDim, c.RopeDim, c.LatentDim, c.QueryLatentDim
	return &groupedQueryLatent{
		Wdq:    w.matrix("Wdq", C, Q),
		bdq:    w.bias(c, "bdq", Q),
		normq:  w.norm("normq", Q),
		Wuq:    w.matrix("Wuq", Q, H*(D+R)),
		buq:    w.bias(c, "buq", H*(D+R)),
		Wdkv:   w.matrix("Wdkv", C, L),
		bdkv:   w.bias(c, "bdkv", L),
		normkv: w.norm("normkv", L),
		Wkr:    w.matrix("Wkr", C, R),
		bkr:    w.bias(c, "bkr", R),
		Wukv:   w.matrix("Wukv", 1, L, G*2*D),
		bukv:   w.bias(c, "bukv", 1, G*2*D),
		Wo:     out,
		gate:   newGate(c, C, w),
		H:      H, G: G, D: D, R: R, L: L, Q: Q, rotary: c.Rotary(), mask: c.mask(), eps: p.NormEps,
	}
}

func (a *groupedQueryLatent) Params() []graph.Param {
	return list(&a.Wdq, a.bdq, &a.normq, &a.Wuq, a.buq, &a.Wdkv, a.bdkv, &a.normkv, &a.Wkr, a.bkr, &a.Wukv, a.bukv, &a.Wo,
		a.gate.param())
}

func (a *groupedQueryLatent) Forward(b *graph.Builder, x *graph.Node) *graph.Node {
	cq := b.Linear(x, b.Param(a.Wdq), optional(b, a.bdq)) // [B, T, Q]
	cq = b.RMSNorm(cq, b.Param(a.normq), a.eps)
	q := b.Linear(cq, b.Param(a.Wuq), optional(b, a.buq)) // [B, T, H·(D+R)]
	q = b.Reshape(q, b.B, b.T, a.H, a.D+a.R)              // [B, T, H, D+R]
	q = b.Rope(q, a.R, a.rotary)

	c := b.Linear(x, b.Param(a.Wdkv), optional(b, a.bdkv)) // [B, T, L]
	c = b.RMSNorm(c, b.Param(a.normkv), a.eps)
	c = b.Reshape(c, b.B, b.T, 1, a.L)                      // [B, T, 1, L]
	kv := b.Linear(c, b.Param(a.Wukv), optional(b, a.bukv)) // [B, T, 1, G·2D]
	kv = b.Reshape(kv, b.B, b.T, a.G, 2*a.D)                // [B, T, G, 2D]

	kr := b.Linear(x, b.Param(a.Wkr), optional(b, a.bkr)) // [B, T, R]
	kr = b.Reshape(kr, b.B, b.T, 1, a.R)                  // [B, T, 1, R]
	kr = b.Rope(kr, a.R, a.rotary)

	o := b.AttendShared(q, kv, kr, a.D, a.D, a.D, a.mask, 1/math.Sqrt(float64(a.D+a.R))) // [B, T, H, D]
	o = b.Reshape(o, b.B, b.T, a.H*a.D)                                                  // [B, T, H·D]
	o = a.gate.forward(b, o, x)                                                          // [B, T, H·D]
	return b.Linear(o, b.Param(a.Wo), nil)                                               // [B, T, C]
}

func (a *groupedQueryLatent) CacheLayout() Layout {
	return Layout{{"c", 1, a.L}, {RopeKey, 1, a.R}}
}

func (a *groupedQueryLatent) Decode(s Step, layer int, x graph.Buf) graph.Buf {
	cq := s.Linear(x, a.Wdq, a.bdq) // [N, Q]
	cq = s.RMSNorm(cq, a.normq, a.eps)
	q := s.Linear(cq, a.Wuq, a.buq) // [N, H·(D+R)]
	q = s.Rope(q, a.H, a.R, a.rotary)

	c := s.Linear(x, a.Wdkv, a.bdkv) // [N, L]
	c = s.RMSNorm(c, a.normkv, a.eps)
	kr := s.Linear(x, a.Wkr, a.bkr) // [N, R]
	gate := a.gate.product(s, x)
	kr = s.Rope(kr, 1, a.R, a.rotary)
	s.Append(layer, 0, c)
	s.Append(layer, 1, kr)

	read := LatentRead{H: a.H, Made: a.G, D: a.D, R: a.R, C: 0, KRope: 1, Wukv: a.Wukv, Bukv: a.bukv,
		Scale: 1 / math.Sqrt(float64(a.D+a.R)), Window: a.mask.Window}
	o := a.gate.decode(s, s.AttendLatent(layer, q, read), gate) // [N, H·D]
	return s.Linear(o, a.Wo, nil)                               // [N, C]
}
