package attention

import (
	"fmt"
	"math"

	"headroom/internal/graph"
)

// latent is grouped latent attention: n latent heads of L dims each stand for the keys and values of H/n query heads,
// and one rope key of R dims serves all.
//
//	cq = rmsnorm(x·Wdq + bdq)                     q = rope(cq·Wuq + buq), the last R of each head's D+R
//	c  = rmsnorm(x·Wdkv + bdkv), each latent apart    kr = rope(x·Wkr + bkr)
//	[ k | v ] of each head = c_i·Wukv_i + bukv_i, i = the head's latent     k = [ k | kr ]
//	y = softmax(q·kᵀ/√(D+R))·v · Wo
//
// MLA is one latent head of 4D. GLA_q splits the query latent too: part i makes the queries of the heads of latent i;
// each part is normed apart, as the latents are, but where query_norm: whole norms the query latent as one.
// A token leaves its normalised latents and one rotated rope key in the cache: n·L + R elements.
type latent struct {
	Wdq   graph.Param  // [C, Q]
	bdq   *graph.Param // [Q]
	normq graph.Param  // [Q]; GLA_q: [n, Q/n], or [Q] with query_norm: whole
	Wuq   graph.Param  // [Q, H·(D+R)]; GLA_q: [n, Q/n, (H/n)·(D+R)]
	buq   *graph.Param // [H·(D+R)]; GLA_q: [n, (H/n)·(D+R)]

	Wdkv   graph.Param  // [C, n·L]
	bdkv   *graph.Param // [n·L]
	normkv graph.Param  // [n, L]
	Wkr    graph.Param  // [C, R]
	bkr    *graph.Param // [R]
	Wukv   graph.Param  // [n, L, (H/n)·2D], per head [ k | v ]
	bukv   *graph.Param // [n, (H/n)·2D]
	Wo     graph.Param  // [H·D, C]

	gate             *outputGate
	H, n, D, R, L, Q int
	splitQuery       bool
	rotary           graph.Rotary
	mask             graph.Mask
	eps              float64
}

var (
	latentKeys  = []string{"bias", "latent_dim", "query_latent_dim"}
	latentParts = []string{"Wuq", "Wukv"}
)

func mlaDefaults(c settings) {
	c.is("groups", &c.Groups, 1, "one")
	c.open("latent_dim", &c.LatentDim, 4*c.HeadDim, "4 x head_dim")
	glaDefaults(c)
}

func glaDefaults(c settings) {
	if c.HeadDim >= 128 {
		c.open("rope_dim", &c.RopeDim, 64, "64 from head_dim 128 on")
	} else {
		c.open("rope_dim", &c.RopeDim, 32, "32 below head_dim 128")
	}
	c.open("latent_dim", &c.LatentDim, 2*c.HeadDim, "2 x head_dim")
	c.open("query_latent_dim", &c.QueryLatentDim, 8*c.HeadDim, "8 x head_dim")
}

func glaqDefaults(c settings) {
	glaDefaults(c)
	if c.QueryNorm == "" {
		c.QueryNorm, c.laws["query_norm"] = PartsNorm, "each part of the query latent apart"
	}
}

func latentCheck(c Config) error {
	if c.LatentDim < 1 || c.QueryLatentDim < 1 {
		return fmt.Errorf("latent_dim and query_latent_dim must be positive, they are %d and %d",
			c.LatentDim, c.QueryLatentDim)
	}
	return nil
}

func glaqCheck(c Config) error {
	if err := latentCheck(c); err != nil {
		return err
	}
	if c.QueryLatentDim%c.Groups != 0 {
		return fmt.Errorf("%d latent heads do not divide query_latent_dim %d", c.Groups, c.QueryLatentDim)
	}
	return nil
}

// latentShape has the latents as keys and values of decoding, which runs absorbed.
func latentShape(c Config) Shape {
	return Shape{Query: c.HeadDim + c.RopeDim, Value: c.HeadDim, P: c.LatentDim, R: c.RopeDim, Dv: c.LatentDim}
}

func newLatent(c Config, p Place, w weights, out graph.Param) Layer {
	C := p.Width
	H, n, D, R, L, Q := c.Heads, c.Groups, c.HeadDim, c.RopeDim, c.LatentDim, c.QueryLatentDim
	a := &latent{
		Wdq:    w.matrix("Wdq", C, Q),
		bdq:    w.bias(c, "bdq", Q),
		normq:  w.norm("normq", Q),
		Wuq:    w.matrix("Wuq", Q, H*(D+R)),
		buq:    w.bias(c, "buq", H*(D+R)),
		Wdkv:   w.matrix("Wdkv", C, n*L),
		bdkv:   w.bias(c, "bdkv", n*L),
		normkv: w.norm("normkv", n, L),
		Wkr:    w.matrix("Wkr", C, R),
		bkr:    w.bias(c, "bkr", R),
		Wukv:   w.matrix("Wukv", n, L, H/n*2*D),
		bukv:   w.bias(c, "bukv", n, H/n*2*D),
		Wo:     out,
		gate:   newGate(c, C, w),
		H:      H, n: n, D: D, R: R, L: L, Q: Q, splitQuery: c.Kind == GLAQ, rotary: c.Rotary(), mask: c.mask(),
		eps: p.NormEps,
	}
	if a.splitQuery {
		a.Wuq = w.matrix("Wuq", n, Q/n, H/n*(D+R))
		a.buq = w.bias(c, "buq", n, H/n*(D+R))
	}
	if a.splitQuery && c.QueryNorm != WholeNorm {
		a.normq = w.norm("normq", n, Q/n)
	}
	return a
}

func (a *latent) Params() []graph.Param {
	return list(&a.Wdq, a.bdq, &a.normq, &a.Wuq, a.buq, &a.Wdkv, a.bdkv, &a.normkv, &a.Wkr, a.bkr, &a.Wukv, a.bukv, &a.Wo,
		a.gate.param())
}

func (a *latent) Forward(b *graph.Builder, x *graph.Node) *graph.Node {
	cq := b.Linear(x, b.Param(a.Wdq), optional(b, a.bdq)) // [B, T, Q]
	if len(a.normq.Shape) == 1 {
		cq = b.RMSNorm(cq, b.Param(a.normq), a.eps)
	}
	if a.splitQuery {
		cq = b.Reshape(cq, b.B, b.T, a.n, a.Q/a.n) // [B, T, n, Q/n]
	}
	if len(a.normq.Shape) == 2 {
		cq = b.RMSNorm(cq, b.Param(a.normq), a.eps)
	}
	q := b.Linear(cq, b.Param(a.Wuq), optional(b, a.buq)) // [B, T, H·(D+R)]
	q = b.Reshape(q, b.B, b.T, a.H, a.D+a.R)              // [B, T, H, D+R]
	q = b.Rope(q, a.R, a.rotary)

	c := b.Linear(x, b.Param(a.Wdkv), optional(b, a.bdkv)) // [B, T, n·L]
	c = b.Reshape(c, b.B, b.T, a.n, a.L)                   // [B, T, n, L]
	c = b.RMSNorm(c, b.Param(a.normkv), a.eps)
	kv := b.Linear(c, b.Param(a.Wukv), optional(b, a.bukv)) // [B, T, n, (H/n)·2D]
	kv = b.Reshape(kv, b.B, b.T, a.H, 2*a.D)                // [B, T, H, 2D]

	kr := b.Linear(x, b.Param(a.Wkr), optional(b, a.bkr)) // [B, T, R]
	kr = b.Reshape(kr, b.B, b.T, 1, a.R)                  // [B, T, 1, R]
	kr = b.Rope(kr, a.R, a.rotary)

	o := b.AttendShared(q, kv, kr, a.D, a.D, a.D, a.mask, 1/math.Sqrt(float64(a.D+a.R))) // [B, T, H, D]
	o = b.Reshape(o, b.B, b.T, a.H*a.D)                                                  // [B, T, H·D]
	o = a.gate.forward(b, o, x)                                                          // [B, T, H·D]
	return b.Linear(o, b.Param(a.Wo), nil)                                               // [B, T, C]
}

func (a *latent) CacheLayout() Layout {
	return Layout{{"c", a.n, a.L}, {RopeKey, 1, a.R}}
}

func (a *latent) Decode(s Step, layer int, x graph.Buf) graph.Buf {
	cq := s.Linear(x, a.Wdq, a.bdq) // [N, Q]
	cq = s.RMSNorm(cq, a.normq, a.eps)
	q := s.Linear(cq, a.Wuq, a.buq) // [N, H·(D+R)]
	q = s.Rope(q, a.H, a.R, a.rotary)

	c := s.Linear(x, a.Wdkv, a.bdkv) // [N, n·L]
	c = s.RMSNorm(c, a.normkv, a.eps)
	kr := s.Linear(x, a.Wkr, a.bkr) // [N, R]
	gate := a.gate.product(s, x)
	kr = s.Rope(kr, 1, a.R, a.rotary)
	s.Append(layer, 0, c)
	s.Append(layer, 1, kr)

	read := LatentRead{H: a.H, D: a.D, R: a.R, C: 0, KRope: 1, Wukv: a.Wukv, Bukv: a.bukv,
		Scale: 1 / math.Sqrt(float64(a.D+a.R)), Window: a.mask.Window}
	o := a.gate.decode(s, s.AttendLatent(layer, q, read), gate) // [N, H·D]
	return s.Linear(o, a.Wo, nil)                               // [N, C]
}
