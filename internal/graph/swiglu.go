package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// SwiGLU is silu(gate) · up.
type SwiGLU struct{ Shape shape4 }

// SwiGLUGrad gives dgate and dup from gate, up and dy.
type SwiGLUGrad struct {
	last
	Shape shape4
}

// SwiGLU is silu(gate) · up, element by element.
func (b *Builder) SwiGLU(gate, up *Node) *Node {
	if b.failed() {
		return nil
	}
	want(gate.Shape().Eq(up.Shape()), "swiglu: gate %v and up %v", gate.Shape(), up.Shape())
	return b.apply(SwiGLU{toShape4(gate.Shape())}, gate, up)
}

func (SwiGLU) Kind() string              { return "swiglu" }
func (a SwiGLU) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (SwiGLU) aux() []Aux                { return nil }

func (a SwiGLU) grad(n *applied) (gorgonia.Nodes, error) {
	return n.parts(SwiGLUGrad{Shape: a.Shape}, n.in[0], n.in[1], n.dout)
}

func (SwiGLUGrad) Kind() string { return "swiglu.grad" }
func (a SwiGLUGrad) outputs() []tensor.Shape {
	return []tensor.Shape{a.Shape.tensor(), a.Shape.tensor()}
}
