package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Expand is y = Scale·a·b for each row, a product of a factor over heads and one over columns: a [Rows, H, R],
// b [Rows, R, D], y [Rows, H, D].
type Expand struct {
	Rows, H, R, D int
	Scale         float64
	Shape         shape4 // of y in the graph
}

// ExpandGrad gives da and db from a, b and dy.
type ExpandGrad struct {
	last
	Rows, H, R, D int
	Scale         float64
	A, B          shape4
}

// Expand is scale·x·y for each row of x [B, T, H, R] and y [B, T, R, D].
func (b *Builder) Expand(x, y *Node, scale float64) *Node {
	if b.failed() {
		return nil
	}
	xs, ys := x.Shape(), y.Shape()
	want(len(xs) == 4 && len(ys) == 4 && xs[3] == ys[2] && xs[0] == ys[0] && xs[1] == ys[1], "expand: %v and %v", xs, ys)
	out := xs.Clone()
	out[3] = ys[3]
	return b.apply(Expand{Rows: rows(xs, 2), H: xs[2], R: xs[3], D: ys[3], Scale: scale, Shape: toShape4(out)}, x, y)
}

func (Expand) Kind() string              { return "expand" }
func (a Expand) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (Expand) aux() []Aux                { return nil }

func (a Expand) grad(n *applied) (gorgonia.Nodes, error) {
	g := ExpandGrad{Rows: a.Rows, H: a.H, R: a.R, D: a.D, Scale: a.Scale, A: toShape4(n.in[0].Shape()),
		B: toShape4(n.in[1].Shape())}
	return n.parts(g, n.in[0], n.in[1], n.dout)
}

func (ExpandGrad) Kind() string              { return "expand.grad" }
func (a ExpandGrad) outputs() []tensor.Shape { return []tensor.Shape{a.A.tensor(), a.B.tensor()} }
