package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Reshape gives the same elements another shape. The executor makes it an alias; gorgonia's tape machine, which
// corrupts aliases, gets a copy.
type Reshape struct{ Shape shape4 }

// Part is output Index of an op with several outputs, Offset elements into its flat node.
type Part struct {
	last
	Index, Offset int
	Shape         shape4
}

// Saved is aux buffer Index of the forward op, for gradients that the forward op has already computed. Its operands
// are the op's result and the gradient of it, which must be the 1 that differentiation starts with.
type Saved struct {
	last
	Index int
	Shape shape4
}

// Add is x + y.
type Add struct{ Shape shape4 }

// Copy moves N elements, or adds them: a step of the executor's own, for results that leave the arena.
type Copy struct {
	last
	N int
}

// Reshape views x with other dims; one of them may be -1.
func (b *Builder) Reshape(x *Node, dims ...int) *Node {
	if b.failed() {
		return nil
	}
	shape, known, open := tensor.Shape(dims).Clone(), 1, -1
	for i, d := range dims {
		if d == -1 {
			open = i
		} else {
			known *= d
		}
	}
	if open >= 0 {
		shape[open] = x.Shape().TotalSize() / known
	}
	want(shape.TotalSize() == x.Shape().TotalSize(), "reshape: %v does not fit %v", x.Shape(), dims)
	return b.apply(Reshape{toShape4(shape)}, x)
}

// Add is the sum of two nodes of one shape.
func (b *Builder) Add(x, y *Node) *Node {
	if b.failed() {
		return nil
	}
	want(x.Shape().Eq(y.Shape()), "add: %v and %v", x.Shape(), y.Shape())
	return b.apply(Add{toShape4(x.Shape())}, x, y)
}

func (Reshape) Kind() string              { return "reshape" }
func (a Reshape) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (Reshape) aux() []Aux                { return nil }
func (a Reshape) grad(n *applied) (gorgonia.Nodes, error) {
	dx, err := n.apply(Reshape{toShape4(n.in[0].Shape())}, n.dout)
	return gorgonia.Nodes{dx}, err
}

func (Part) Kind() string               { return "part" }
func (a Part) outputs() []tensor.Shape  { return []tensor.Shape{a.Shape.tensor()} }
func (Saved) Kind() string              { return "saved" }
func (a Saved) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }

func (Add) Kind() string                            { return "add" }
func (a Add) outputs() []tensor.Shape               { return []tensor.Shape{a.Shape.tensor()} }
func (Add) aux() []Aux                              { return nil }
func (Add) grad(n *applied) (gorgonia.Nodes, error) { return gorgonia.Nodes{n.dout, n.dout}, nil }

func (Copy) Kind() string              { return "copy" }
func (a Copy) outputs() []tensor.Shape { return []tensor.Shape{{a.N}} }
