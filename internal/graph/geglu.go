package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// GeGLU is gelu(gate) · up, with the tanh form of GELU.
type GeGLU struct{ Shape shape4 }

// GeGLUGrad gives dgate and dup from gate, up and dy.
type GeGLUGrad struct {
	last
	Shape shape4
}

// GeGLU is gelu(gate) · up, element by element.
func (b *Builder) GeGLU(gate, up *Node) *Node {
	if b.failed() {
		return nil
	}
	want(gate.Shape().Eq(up.Shape()), "geglu: gate %v and up %v", gate.Shape(), up.Shape())
	return b.apply(GeGLU{toShape4(gate.Shape())}, gate, up)
}

func (GeGLU) Kind() string              { return "geglu" }
func (a GeGLU) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (GeGLU) aux() []Aux                { return nil }

func (a GeGLU) grad(n *applied) (gorgonia.Nodes, error) {
	return n.parts(GeGLUGrad{Shape: a.Shape}, n.in[0], n.in[1], n.dout)
}

func (GeGLUGrad) Kind() string { return "geglu.grad" }
func (a GeGLUGrad) outputs() []tensor.Shape {
	return []tensor.Shape{a.Shape.tensor(), a.Shape.tensor()}
}
