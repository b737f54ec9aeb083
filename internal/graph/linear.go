package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Linear is y = x·W + b on rows, in Groups independent blocks: x [Rows, Groups, In], w [Groups, In, Out],
// y [Rows, Groups, Out].
type Linear struct {
	Rows, Groups, In, Out int
	Bias                  bool
	Shape                 shape4 // of y in the graph
}

// LinearDX is dx = dy·Wᵀ, from w and dy.
type LinearDX struct {
	last
	Rows, Groups, In, Out int
	Shape                 shape4 // of x
}

// LinearDW is dW = xᵀ·dy, from x and dy.
type LinearDW struct {
	last
	Rows, Groups, In, Out int
	Shape                 shape4 // of w
}

// ColSum sums rows: the gradient of a bias, from dy [Rows, N].
type ColSum struct {
	last
	Rows, N int
	Shape   shape4 // of the bias
}

// Linear multiplies x [.., I] by w [I, O] and adds bias [O], which may be nil. With w [n, I, O] it multiplies the n
// blocks of x [.., n, I] each by its own weight, with bias [n, O].
func (b *Builder) Linear(x, w, bias *Node) *Node {
	if b.failed() {
		return nil
	}
	xs, ws := x.Shape(), w.Shape()
	a := Linear{Groups: 1, In: ws[len(ws)-2], Out: ws[len(ws)-1], Bias: bias != nil}
	if len(ws) == 3 {
		a.Groups = ws[0]
		want(len(xs) > 1 && xs[len(xs)-2] == a.Groups, "linear: x %v has not the %d blocks of w %v", xs, a.Groups, ws)
	}
	want(xs[len(xs)-1] == a.In, "linear: x %v does not fit w %v", xs, ws)
	a.Rows = xs.TotalSize() / (a.Groups * a.In)
	y := xs.Clone()
	y[len(y)-1] = a.Out
	a.Shape = toShape4(y)
	if bias == nil {
		return b.apply(a, x, w)
	}
	want(bias.Shape().TotalSize() == a.Groups*a.Out, "linear: bias %v does not fit w %v", bias.Shape(), ws)
	return b.apply(a, x, w, bias)
}

func (Linear) Kind() string              { return "linear" }
func (a Linear) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (Linear) aux() []Aux                { return nil }

func (a Linear) grad(n *applied) (gorgonia.Nodes, error) {
	x, w := n.in[0], n.in[1]
	dx, err := n.apply(LinearDX{last{}, a.Rows, a.Groups, a.In, a.Out, toShape4(x.Shape())}, w, n.dout)
	if err != nil {
		return nil, err
	}
	dw, err := n.apply(LinearDW{last{}, a.Rows, a.Groups, a.In, a.Out, toShape4(w.Shape())}, x, n.dout)
	if err != nil || !a.Bias {
		return gorgonia.Nodes{dx, dw}, err
	}
	db, err := n.apply(ColSum{last{}, a.Rows, a.Groups * a.Out, toShape4(n.in[2].Shape())}, n.dout)
	return gorgonia.Nodes{dx, dw, db}, err
}

func (LinearDX) Kind() string              { return "linear.dx" }
func (a LinearDX) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (LinearDW) Kind() string              { return "linear.dw" }
func (a LinearDW) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (ColSum) Kind() string                { return "colsum" }
func (a ColSum) outputs() []tensor.Shape   { return []tensor.Shape{a.Shape.tensor()} }
