package graph

import (
	"errors"
	"slices"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// An Attr says what an op computes: its kind and every size a kernel needs. Each op is one small struct in a file
// of its own, beside the Builder method that applies it and its symbolic gradient; backends switch on its type.
type Attr interface {
	// Kind is the op's name in hashes, errors and profiles.
	Kind() string

	// outputs lists what the op writes. One output is the node itself. Several are parts of one flat node, because
	// gorgonia's nodes have one value each; Part selects them.
	outputs() []tensor.Shape

	// aux lists what the op keeps for its gradient beside its output.
	aux() []Aux

	// grad builds the gradient of each input, nil for an input that has none.
	grad(n *applied) (gorgonia.Nodes, error)
}

// An Aux is a side buffer of an op: statistics that stay float32 at any precision, or activations.
type Aux struct {
	Shape tensor.Shape
	Stat  bool
}

// shape4 is a shape as a comparable value, so that attributes stay plain structs. Unused dims are zero.
type shape4 [4]int

func toShape4(s tensor.Shape) (a shape4) {
	want(len(s) <= len(a), "shape %v has more than %d dims", s, len(a))
	copy(a[:], s)
	return a
}

func (a shape4) tensor() tensor.Shape {
	n := slices.Index(a[:], 0)
	if n < 0 {
		n = len(a)
	}
	return slices.Clone(a[:n])
}

var errSecondGrad = errors.New("graph: a gradient is not differentiated again")

// last marks the ops of a gradient: they keep nothing and are not differentiated again.
type last struct{}

func (last) aux() []Aux                            { return nil }
func (last) grad(*applied) (gorgonia.Nodes, error) { return nil, errSecondGrad }
