package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Repeat is y[r, t, i] = Scale·x[r, i] for each t of Times: x [Rows, Inner], y [Rows, Times, Inner]. Its gradient is
// Fold.
type Repeat struct {
	Rows, Times, Inner int
	Scale              float64
	Shape              shape4 // of y in the graph
}

// Fold is y[r, i] = Scale·Σ_t x[r, t, i]: x [Rows, Times, Inner], y [Rows, Inner]. Its gradient is Repeat.
type Fold struct {
	Rows, Times, Inner int
	Scale              float64
	Shape              shape4 // of y in the graph
}

// rowsOf are the rows of a shape, and their columns.
func rowsOf(s tensor.Shape) (rows, columns int) {
	columns = s[len(s)-1]
	return s.TotalSize() / columns, columns
}

// Scale is s·x.
func (b *Builder) Scale(x *Node, s float64) *Node {
	if b.failed() {
		return nil
	}
	rows, C := rowsOf(x.Shape())
	return b.apply(Repeat{rows, 1, C, s, toShape4(x.Shape())}, x)
}

// Repeat writes each of the parts into which the heads of x [B, T, H, W] fall so many times, one after the other:
// [B, T, times·H, W].
func (b *Builder) Repeat(x *Node, parts, times int) *Node {
	if b.failed() {
		return nil
	}
	s := x.Shape().Clone()
	want(len(s) == 4 && parts > 0 && times > 0 && s[2]%parts == 0, "repeat: %d parts of %v, %d times", parts, s, times)
	a := Repeat{Rows: s[0] * s[1] * parts, Times: times, Inner: s[2] / parts * s[3], Scale: 1}
	s[2] *= times
	a.Shape = toShape4(s)
	return b.apply(a, x)
}

// Fold is scale times the sum over what Repeat wrote: x [B, T, times·H, W], whose heads fall into parts, gives
// [B, T, H, W].
func (b *Builder) Fold(x *Node, parts, times int, scale float64) *Node {
	if b.failed() {
		return nil
	}
	s := x.Shape().Clone()
	want(len(s) == 4 && parts > 0 && times > 0 && s[2]%(parts*times) == 0, "fold: %d parts of %v, %d times", parts, s,
		times)
	s[2] /= times
	a := Fold{Rows: s[0] * s[1] * parts, Times: times, Inner: s[2] / parts * s[3], Scale: scale, Shape: toShape4(s)}
	return b.apply(a, x)
}

func (Repeat) Kind() string              { return "repeat" }
func (a Repeat) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (Repeat) aux() []Aux                { return nil }
func (a Repeat) grad(n *applied) (gorgonia.Nodes, error) {
	dx, err := n.apply(Fold{a.Rows, a.Times, a.Inner, a.Scale, toShape4(n.in[0].Shape())}, n.dout)
	return gorgonia.Nodes{dx}, err
}

func (Fold) Kind() string              { return "fold" }
func (a Fold) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (Fold) aux() []Aux                { return nil }
func (a Fold) grad(n *applied) (gorgonia.Nodes, error) {
	dx, err := n.apply(Repeat{a.Rows, a.Times, a.Inner, a.Scale, toShape4(n.in[0].Shape())}, n.dout)
	return gorgonia.Nodes{dx}, err
}
