package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Columns cuts rows of From columns down to their first To, or puts zeros behind them.
type Columns struct {
	Shape    shape4 // of the result
	Back     shape4 // of the operand
	From, To int
}

// Columns is the first n columns of x [..., C].
func (b *Builder) Columns(x *Node, n int) *Node {
	if b.failed() {
		return nil
	}
	s := x.Shape().Clone()
	C := s[len(s)-1]
	want(0 < n && n <= C, "columns: %d of %v", n, s)
	s[len(s)-1] = n
	return b.apply(Columns{toShape4(s), toShape4(x.Shape()), C, n}, x)
}

func (Columns) Kind() string              { return "columns" }
func (a Columns) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (Columns) aux() []Aux                { return nil }

func (a Columns) grad(n *applied) (gorgonia.Nodes, error) {
	dx, err := n.apply(Columns{a.Back, a.Shape, a.To, a.From}, n.dout)
	return gorgonia.Nodes{dx}, err
}
