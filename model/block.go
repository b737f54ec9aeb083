package model

import (
	"headroom/attention"
	"headroom/internal/graph"
)

// Where the norms of a block stand, the values of Config.Norm.
const (
	PreNorm   = "pre"  // x + attention(norm(x)), then x + mlp(norm(x))
	PostNorm  = "post" // x + norm(attention(x)), then x + norm(mlp(x)), as in OLMo 2
	BothNorms = "both" // x + norm(attention(norm(x))), then x + norm(mlp(norm(x))), as in Gemma 3
)

// A block adds what attention and the MLP make of x to it, one after the other. A norm that Config.Norm does not have
// is nil.
type block struct {
	norm1 *graph.Param // [C], before attention
	attn  attention.Layer
	post1 *graph.Param // [C], behind attention
	norm2 *graph.Param // [C], before the MLP
	mlp   mlp
	post2 *graph.Param // [C], behind the MLP
	eps   float64
}

func newBlock(c Config, a attention.Config, name string) (block, error) {
	attn, err := attention.New(a, c.place(name+".attn"))
	k := block{attn: attn, mlp: newMLP(c, name+".mlp"), eps: c.NormEps}
	norm := func(name string) *graph.Param {
		p := ones(name, c.Width)
		return &p
	}
	if c.Norm != PostNorm {
		k.norm1, k.norm2 = norm(name+".norm1"), norm(name+".norm2")
	}
	if c.Norm != PreNorm {
		k.post1, k.post2 = norm(name+".norm1post"), norm(name+".norm2post")
	}
	return k, err
}

func (k block) params() (ps []graph.Param) {
	norm := func(p *graph.Param) {
		if p != nil {
			ps = append(ps, *p)
		}
	}
	norm(k.norm1)
	ps = append(ps, k.attn.Params()...)
	norm(k.post1)
	norm(k.norm2)
	ps = append(ps, k.mlp.params()...)
	norm(k.post2)
	return ps
}

func (k block) forward(b *graph.Builder, x *graph.Node) *graph.Node {
	norm := func(x *graph.Node, w *graph.Param) *graph.Node {
		if w == nil {
			return x
		}
		return b.RMSNorm(x, b.Param(*w), k.eps)
	}
	x = b.Add(x, norm(k.attn.Forward(b, norm(x, k.norm1)), k.post1))
	return b.Add(x, norm(k.mlp.forward(b, norm(x, k.norm2)), k.post2))
}
