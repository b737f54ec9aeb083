package model

import "headroom/internal/graph"

// What gates the MLP, the values of Config.Activation.
const (
	SiLU     = "silu"
	GELUTanh = "gelu_tanh" // the tanh form of GELU
)

// mlp is SwiGLU: (silu(x·Wgate) ⊙ x·Wup)·Wdown, or GeGLU, with the tanh form of GELU in the place of silu.
type mlp struct {
	Wgate graph.Param // [C, F]
	Wup   graph.Param // [C, F]
	Wdown graph.Param // [F, C]

	gelu bool
}

func newMLP(c Config, name string) mlp {
	return mlp{
		Wgate: matrix(name+".Wgate", c.Width, c.MLP, c.InitStd),
		Wup:   matrix(name+".Wup", c.Width, c.MLP, c.InitStd),
		Wdown: matrix(name+".Wdown", c.MLP, c.Width, c.outStd()),
		gelu:  c.Activation == GELUTanh,
	}
}

func (m mlp) params() []graph.Param { return []graph.Param{m.Wgate, m.Wup, m.Wdown} }

func (m mlp) forward(b *graph.Builder, x *graph.Node) *graph.Node {
	gated := b.SwiGLU
	if m.gelu {
		gated = b.GeGLU
	}
	gate := b.Linear(x, b.Param(m.Wgate), nil)              // [B, T, F]
	up := b.Linear(x, b.Param(m.Wup), nil)                  // [B, T, F]
	return b.Linear(gated(gate, up), b.Param(m.Wdown), nil) // [B, T, C]
}
