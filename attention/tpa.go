package attention

import (
	"fmt"
	"math"

	"headroom/internal/graph"
)

// tensorProduct is tensor product attention (TPA, "Tensor Product Attention Is All You Need", arXiv 2501.06425): each
// token's queries, keys and values of all heads are a product of factors, one over the heads and one over the columns,
// both made of the token, and the cache holds the factors.
//
//	A_Q = x·Waq [H, R_Q]   B_Q = rope(x·Wbq) [R_Q, D]   q = 1/R_Q · A_Q·B_Q
//	A_K = x·Wak [H, R_K]   B_K = rope(x·Wbk) [R_K, D]   k = 1/R_K · A_K·B_K
//	A_V = x·Wav [H, R_V]   B_V = x·Wbv [R_V, D]         v = 1/R_V · A_V·B_V
//	y = softmax(q·kᵀ/√D)·v · Wo, each head its own q, k and v
//
// The rotation of a row of B_K is that of the keys, since they are sums of its rows; so the cache is rotated before it
// is written. The paper has R_Q = 6 and R_K = R_V = 2, which are the defaults; here R_K and R_V are one number, as in
// the authors' code. There are no norms and no biases. A token leaves 2·R_K·(H + D) elements in the cache.
//
// Where code and paper differ: the authors' A matrices and B matrices begin by Xavier's rule for the tensors of rank 3
// that they are, and Wo at zero; here weights begin as model.init says. Their first files rotate q and k after the
// product, which is the same. Rotations of fewer columns than D turn the last of each row of B.
type tensorProduct struct {
	Waq graph.Param // [C, H·Rq]
	Wbq graph.Param // [C, Rq·D]
	Wak graph.Param // [C, H·Rk]
	Wbk graph.Param // [C, Rk·D]
	Wav graph.Param // [C, H·Rk]
	Wbv graph.Param // [C, Rk·D]
	Wo  graph.Param // [H·D, C]

	gate *outputGate

	H, D, R, Rq, Rk int
	rotary          graph.Rotary
	mask            graph.Mask
}

func tpaDefaults(c settings) {
	c.is("groups", &c.Groups, c.Heads, "heads")
	c.open("query_rank", &c.QueryRank, 6, "6")
	c.open("kv_rank", &c.KVRank, 2, "2")
	gqaDefaults(c)
}

func tpaCheck(c Config) error {
	if c.QueryRank < 1 || c.KVRank < 1 {
		return fmt.Errorf("query_rank and kv_rank must be positive, they are %d and %d", c.QueryRank, c.KVRank)
	}
	return gqaCheck(c)
}

// Expansions are the multiplications of a token by which factors become queries, keys and values: 0 but for TPA.
func (c Config) Expansions() int64 {
	if c = c.Resolve(); c.Form() != Factored {
		return 0
	}
	return int64(c.Heads * c.HeadDim * (c.QueryRank + 2*c.KVRank))
}

func newTPA(c Config, p Place, w weights, out graph.Param) Layer {
	C, H, D, Rq, Rk := p.Width, c.Heads, c.HeadDim, c.QueryRank, c.KVRank
	return &tensorProduct{
		Waq: w.matrix("Waq", C, H*Rq),
		Wbq: w.matrix("Wbq", C, Rq*D),
		Wak: w.matrix("Wak", C, H*Rk),
		Wbk: w.matrix("Wbk", C, Rk*D),
		Wav: w.matrix("Wav", C, H*Rk),
		Wbv: w.matrix("Wbv", C, Rk*D),
		Wo:  out, gate: newGate(c, C, w),
		H: H, D: D, R: c.RopeDim, Rq: Rq, Rk: Rk, rotary: c.Rotary(), mask: c.mask(),
	}
}

func (a *tensorProduct) Params() []graph.Param {
	return list(&a.Waq, &a.Wbq, &a.Wak, &a.Wbk, &a.Wav, &a.Wbv, &a.Wo, a.gate.param())
}

// factors multiplies x by the two weights of a product: [B, T, H, rank] and [B, T, rank, D].
func (a *tensorProduct) factors(b *graph.Builder, x *graph.Node, wa, wb graph.Param, rank int) (A, B *graph.Node) {
	heads, columns := b.Linear(x, b.Param(wa), nil), b.Linear(x, b.Param(wb), nil)
	return b.Reshape(heads, b.B, b.T, a.H, rank), b.Reshape(columns, b.B, b.T, rank, a.D)
}

func (a *tensorProduct) Forward(b *graph.Builder, x *graph.Node) *graph.Node {
	aq, bq := a.factors(b, x, a.Waq, a.Wbq, a.Rq) // [B, T, H, Rq] [B, T, Rq, D]
	ak, bk := a.factors(b, x, a.Wak, a.Wbk, a.Rk) // [B, T, H, Rk] [B, T, Rk, D]
	av, bv := a.factors(b, x, a.Wav, a.Wbv, a.Rk) // [B, T, H, Rk] [B, T, Rk, D]
	bq = b.Rope(bq, a.R, a.rotary)
	bk = b.Rope(bk, a.R, a.rotary)
	q := b.Expand(aq, bq, 1/float64(a.Rq))                    // [B, T, H, D]
	k := b.Expand(ak, bk, 1/float64(a.Rk))                    // [B, T, H, D]
	v := b.Expand(av, bv, 1/float64(a.Rk))                    // [B, T, H, D]
	o := b.Attend(q, k, v, a.mask, 1/math.Sqrt(float64(a.D))) // [B, T, H, D]
	o = b.Reshape(o, b.B, b.T, a.H*a.D)                       // [B, T, H·D]
	o = a.gate.forward(b, o, x)                               // [B, T, H·D]
	return b.Linear(o, b.Param(a.Wo), nil)                    // [B, T, C]
}

// The slots of the cache.
const (
	keyColumns = iota
	valueColumns
	keyHeads
	valueHeads
)

func (a *tensorProduct) CacheLayout() Layout {
	return Layout{{"bK", 1, a.Rk * a.D}, {"bV", 1, a.Rk * a.D}, {KeyHeads, a.H, a.Rk}, {ValueHeads, a.H, a.Rk}}
}

func (a *tensorProduct) Decode(s Step, layer int, x graph.Buf) graph.Buf {
	aq, bq := s.Linear(x, a.Waq, nil), s.Linear(x, a.Wbq, nil) // [N, H·Rq] [N, Rq·D]
	ak, bk := s.Linear(x, a.Wak, nil), s.Linear(x, a.Wbk, nil) // [N, H·Rk] [N, Rk·D]
	av, bv := s.Linear(x, a.Wav, nil), s.Linear(x, a.Wbv, nil) // [N, H·Rk] [N, Rk·D]
	gate := a.gate.product(s, x)
	q := s.Expand(aq, bq, a.H, a.D, 1/float64(a.Rq)) // [N, H·D]
	q = s.Rope(q, a.H, a.R, a.rotary)
	bk = s.Rope(bk, a.Rk, a.R, a.rotary)
	s.Append(layer, keyColumns, bk)
	s.Append(layer, valueColumns, bv)
	s.Append(layer, keyHeads, ak)
	s.Append(layer, valueHeads, av)
	o := s.Attend(layer, q, CacheRead{H: a.H, P: a.D, Dv: a.D, K: keyColumns, V: valueColumns, Rank: a.Rk,
		KHeads: keyHeads, VHeads: valueHeads, Scale: 1 / math.Sqrt(float64(a.D)), Window: a.mask.Window}) // [N, H·D]
	return s.Linear(a.gate.decode(s, o, gate), a.Wo, nil) // [N, C]
}
