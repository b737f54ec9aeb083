package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Gate is o · sigmoid(g), where an element of g gates Per elements of o that follow one another.
type Gate struct {
	Shape, By shape4 // of o and of g
	Per       int
}

// GateGrad gives do and dg from o, g and dy.
type GateGrad struct {
	last
	Gate Gate
}

// Gate is o · sigmoid(g). An element of g gates as many elements of o as there are for each: one where the shapes are
// equal, a head's where g has an element for each head.
func (b *Builder) Gate(o, g *Node) *Node {
	if b.failed() {
		return nil
	}
	n, by := o.Shape().TotalSize(), g.Shape().TotalSize()
	want(by > 0 && n%by == 0, "gate: %v does not gate %v", g.Shape(), o.Shape())
	return b.apply(Gate{toShape4(o.Shape()), toShape4(g.Shape()), n / by}, o, g)
}

func (Gate) Kind() string              { return "gate" }
func (a Gate) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (Gate) aux() []Aux                { return nil }

func (a Gate) grad(n *applied) (gorgonia.Nodes, error) {
	return n.parts(GateGrad{Gate: a}, n.in[0], n.in[1], n.dout)
}

func (GateGrad) Kind() string { return "gate.grad" }
func (a GateGrad) outputs() []tensor.Shape {
	return []tensor.Shape{a.Gate.Shape.tensor(), a.Gate.By.tensor()}
}
