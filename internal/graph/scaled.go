package graph

import (
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// AddScaled is y = x + a·z, where column c of z is multiplied by a[c]: x, y, z [Rows, C], a [C].
type AddScaled struct {
	Rows, C int
	Shape   shape4 // of y in the graph
}

// AddScaledGrad gives dz and da from z, a and dy.
type AddScaledGrad struct {
	last
	Rows, C int
	Z       shape4
}

// AddScaled is x + a·z for x and z of one shape [.., C] and a [C].
func (b *Builder) AddScaled(x, z, a *Node) *Node {
	if b.failed() {
		return nil
	}
	xs, as := x.Shape(), a.Shape()
	want(xs.Eq(z.Shape()) && len(as) == 1 && xs[len(xs)-1] == as[0], "add scaled: x %v, z %v and a %v", xs, z.Shape(), as)
	return b.apply(AddScaled{Rows: rows(xs, 1), C: as[0], Shape: toShape4(xs)}, x, z, a)
}

func (AddScaled) Kind() string              { return "add.scaled" }
func (a AddScaled) outputs() []tensor.Shape { return []tensor.Shape{a.Shape.tensor()} }
func (AddScaled) aux() []Aux                { return nil }

func (a AddScaled) grad(n *applied) (gorgonia.Nodes, error) {
	g, err := n.parts(AddScaledGrad{Rows: a.Rows, C: a.C, Z: a.Shape}, n.in[1], n.in[2], n.dout)
	return append(gorgonia.Nodes{n.dout}, g...), err
}

func (AddScaledGrad) Kind() string              { return "add.scaled.grad" }
func (a AddScaledGrad) outputs() []tensor.Shape { return []tensor.Shape{a.Z.tensor(), {a.C}} }
