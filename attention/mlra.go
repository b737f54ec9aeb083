package attention

import (
	"fmt"
	"math"

	"headroom/internal/graph"
)

// lowRank is multi-head low-rank attention (MLRA, "Multi-Head Low-Rank Attention", arXiv 2603.02188): MLA whose latent
// is cut into n, each with a norm, keys, values and a softmax of its own. Each head reads b of them, its branches, and
// their outputs add up.
//
//	cq  = α·rmsnorm(x·Wdq), α = √(C/Q)            q_h = rope(cq·Wuq), the last R of each head's D+R
//	c_i = β·rmsnorm((x·Wdkv)_i), β = √(C/L)       kr = rope(x·Wkr)
//	[ k_ih | v_ih ] = c_i·Wukv_ih                 k_ih = [ k_ih | kr ]
//	y_h = 1/√b · Σ_i softmax(q_h·k_ihᵀ/√(D+R))·v_ih over the branches i of head h;  y = y·Wo
//
// MLRA-4 has b = n = 4: every head reads every latent. MLRA-2 has b = 2 of n = 4: a half of the heads reads two latents
// each. In general head h of H reads the latents from ⌊h·g/H⌋·b on, in g = n/b groups of heads. The paper has R = D/2,
// L = D and Q = 8D, and no biases. A token leaves its normalised latents and one rotated rope key in the cache, as
// GLA-n does: n·L + R elements, of which one of n devices keeps L + R.
//
// Where this differs from the authors' model, without a difference in what it computes: there latent i of MLRA-2 is
// read by half i%2 of the heads, here by half ⌊i/2⌋, so that devices are dealt latents and heads that belong together;
// and what is cached there is β times what is cached here. Their Wo begins at zero, here it begins as model.init says.
type lowRank struct {
	Wdq   graph.Param // [C, Q]
	normq graph.Param // [Q]
	Wuq   graph.Param // [Q, H·(D+R)]

	Wdkv   graph.Param // [C, n·L]
	normkv graph.Param // [n, L]
	Wkr    graph.Param // [C, R]
	Wukv   graph.Param // [n, L, (H/g)·2D], per head [ k | v ]
	Wo     graph.Param // [H·D, C]

	gate *outputGate

	H, n, b, D, R, L   int
	latent, sum, score float64 // factors: β, 1/√b of the whole layer, and α/√(D+R), since q is linear in cq
	rotary             graph.Rotary
	mask               graph.Mask
	eps                float64
}

func mlraDefaults(c settings) {
	c.open("latents", &c.Latents, 4, "4")
	c.open("latent_dim", &c.LatentDim, c.HeadDim, "head_dim")
	glaDefaults(c)
}

func mlraCheck(c Config) error {
	n, b := c.Latents, c.Groups
	switch {
	case n < 1 || n%b != 0 && !c.shard:
		return fmt.Errorf("%d branches do not divide %d latents", b, n)
	case c.Heads%(n/min(n, b)) != 0:
		return fmt.Errorf("%d query heads cannot be divided among %d latents of which each head reads %d", c.Heads, n, b)
	}
	return latentCheck(c)
}

func newMLRA(c Config, p Place, w weights, out graph.Param) Layer {
	C := p.Width
	H, n, b := c.Heads, c.Latents, min(c.Groups, c.Latents)
	D, R, L, Q := c.HeadDim, c.RopeDim, c.LatentDim, c.QueryLatentDim
	return &lowRank{
		Wdq:    w.matrix("Wdq", C, Q),
		normq:  w.norm("normq", Q),
		Wuq:    w.matrix("Wuq", Q, H*(D+R)),
		Wdkv:   w.matrix("Wdkv", C, n*L),
		normkv: w.norm("normkv", n, L),
		Wkr:    w.matrix("Wkr", C, R),
		Wukv:   w.matrix("Wukv", n, L, H*b/n*2*D),
		Wo:     out,
		gate:   newGate(c, C, w),
		H:      H, n: n, b: b, D: D, R: R, L: L,
		latent: math.Sqrt(float64(C) / float64(L)), sum: 1 / math.Sqrt(float64(c.Groups)),
		score:  math.Sqrt(float64(C) / float64(Q) / float64(D+R)),
		rotary: c.Rotary(), mask: c.mask(), eps: p.NormEps,
	}
}

func (a *lowRank) Params() []graph.Param {
	return list(&a.Wdq, &a.normq, &a.Wuq, &a.Wdkv, &a.normkv, &a.Wkr, &a.Wukv, &a.Wo, a.gate.param())
}

func (a *lowRank) Forward(b *graph.Builder, x *graph.Node) *graph.Node {
	g := a.n / a.b
	cq := b.Linear(x, b.Param(a.Wdq), nil) // [B, T, Q]
	cq = b.RMSNorm(cq, b.Param(a.normq), a.eps)
	q := b.Linear(cq, b.Param(a.Wuq), nil)   // [B, T, H·(D+R)]
	q = b.Reshape(q, b.B, b.T, a.H, a.D+a.R) // [B, T, H, D+R]
	q = b.Rope(q, a.R, a.rotary)
	q = b.Repeat(q, g, a.b) // [B, T, b·H, D+R], H/g heads for each latent

	c := b.Linear(x, b.Param(a.Wdkv), nil) // [B, T, n·L]
	c = b.Reshape(c, b.B, b.T, a.n, a.L)   // [B, T, n, L]
	c = b.RMSNorm(c, b.Param(a.normkv), a.eps)
	c = b.Scale(c, a.latent)
	kv := b.Linear(c, b.Param(a.Wukv), nil)      // [B, T, n, (H/g)·2D]
	kv = b.Reshape(kv, b.B, b.T, a.b*a.H, 2*a.D) // [B, T, b·H, 2D]

	kr := b.Linear(x, b.Param(a.Wkr), nil) // [B, T, R]
	kr = b.Reshape(kr, b.B, b.T, 1, a.R)   // [B, T, 1, R]
	kr = b.Rope(kr, a.R, a.rotary)

	o := b.AttendShared(q, kv, kr, a.D, a.D, a.D, a.mask, a.score) // [B, T, b·H, D]
	o = b.Fold(o, g, a.b, a.sum)                                   // [B, T, H, D]
	o = b.Reshape(o, b.B, b.T, a.H*a.D)                            // [B, T, H·D]
	o = a.gate.forward(b, o, x)                                    // [B, T, H·D]
	return b.Linear(o, b.Param(a.Wo), nil)                         // [B, T, C]
}

func (a *lowRank) CacheLayout() Layout {
	return Layout{{"c", a.n, a.L}, {RopeKey, 1, a.R}}
}

func (a *lowRank) Decode(s Step, layer int, x graph.Buf) graph.Buf {
	cq := s.Linear(x, a.Wdq, nil) // [N, Q]
	cq = s.RMSNorm(cq, a.normq, a.eps)
	q := s.Linear(cq, a.Wuq, nil) // [N, H·(D+R)]
	q = s.Rope(q, a.H, a.R, a.rotary)

	c := s.Linear(x, a.Wdkv, nil) // [N, n·L]
	c = s.RMSNorm(c, a.normkv, a.eps)
	kr := s.Linear(x, a.Wkr, nil) // [N, R]
	gate := a.gate.product(s, x)
	kr = s.Rope(kr, 1, a.R, a.rotary)
	s.Append(layer, 0, c)
	s.Append(layer, 1, kr)

	read := LatentRead{H: a.H, D: a.D, R: a.R, C: 0, KRope: 1, Wukv: a.Wukv, Scale: a.score,
		Branches: a.b, Latent: a.latent, Sum: a.sum, Window: a.mask.Window}
	o := a.gate.decode(s, s.AttendLatent(layer, q, read), gate) // [N, H·D]
	return s.Linear(o, a.Wo, nil)                               // [N, C]
}
