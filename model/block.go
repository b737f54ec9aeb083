package model

import (
	"headroom/attention"
	"headroom/internal/graph"
)

// A block is x + attention(norm(x)), then x + mlp(norm(x)).
type block struct {
	norm1 graph.Param // [C]
	attn  attention.Layer
	norm2 graph.Param // [C]
	mlp   mlp
	eps   float64
}

func newBlock(c Config, a attention.Config, name string) (block, error) {
	attn, err := attention.New(a, c.place(name+".attn"))
	return block{ones(name+".norm1", c.Width), attn, ones(name+".norm2", c.Width), newMLP(c, name+".mlp"), c.NormEps}, err
}

func (k block) params() []graph.Param {
	ps := append([]graph.Param{k.norm1}, k.attn.Params()...)
	return append(append(ps, k.norm2), k.mlp.params()...)
}

func (k block) forward(b *graph.Builder, x *graph.Node) *graph.Node {
	x = b.Add(x, k.attn.Forward(b, b.RMSNorm(x, b.Param(k.norm1), k.eps)))
	return b.Add(x, k.mlp.forward(b, b.RMSNorm(x, b.Param(k.norm2), k.eps)))
}
