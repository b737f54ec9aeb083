package graph

import (
	"errors"
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// A Node is a value of the expression graph.
type Node = gorgonia.Node

// Init is the distribution that a parameter starts from: normal with the given mean and standard deviation. The zero
// Init is zeros, and Init{Mean: 1} is ones.
type Init struct{ Mean, Std float64 }

// A Param declares one trained tensor.
type Param struct {
	Name  string // as in the checkpoint: blocks.3.attn.Wq
	Shape []int
	Init  Init
	Decay bool // AdamW's weight decay applies
}

// Size is the number of elements of the parameter.
func (p Param) Size() int { return tensor.Shape(p.Shape).TotalSize() }

// A Builder writes a model's forward pass into an expression graph for one batch size and length. It keeps the first
// error, as bufio.Writer does: build the whole pass, then ask Err once. After an error every method returns nil and
// accepts nil.
//
// Shapes that do not fit each other are a mistake of the caller, not of the input: they panic with both shapes.
type Builder struct {
	B, T      int  // rows and tokens a row
	Recompute bool // a trainer runs blocks again in the backward pass instead of keeping their activations
	Documents bool // attention stays within documents, which the input Documents gives

	g          *gorgonia.ExprGraph
	salt       uint32
	params     map[string]*Node
	inputs     map[string]*Node
	boundaries []*Node
	err        error
}

// NewBuilder starts an empty graph for batches of B rows of T tokens.
func NewBuilder(B, T int) *Builder { return newBuilder(B, T, 0) }

func newBuilder(B, T int, salt uint32) *Builder {
	b := &Builder{B: B, T: T, g: gorgonia.NewGraph(), salt: salt, params: map[string]*Node{}, inputs: map[string]*Node{}}
	b.err = fits([]int{B, T})
	return b
}

// Err returns the first error of the pass.
func (b *Builder) Err() error { return b.err }

// Param is the node of a trained tensor. Asking twice gives the same node: that is how weights are tied.
func (b *Builder) Param(p Param) *Node {
	if n, ok := b.params[p.Name]; ok {
		return n
	}
	n := b.input(tensor.Float32, "param."+p.Name, p.Shape)
	b.params[p.Name] = n
	return n
}

// Tokens is an int32 input [B, T]; its values are given by name at each run.
func (b *Builder) Tokens(name string) *Node {
	if n, ok := b.inputs[name]; ok {
		return n
	}
	n := b.input(tensor.Int32, "input."+name, []int{b.B, b.T})
	b.inputs[name] = n
	return n
}

// input adds a leaf. Leaves of equal name, type and shape are one node to gorgonia, hence the name in the constructor.
// The salt stands first, because two names whose hashes collide go on colliding whatever follows them.
func (b *Builder) input(dt tensor.Dtype, name string, shape []int) *Node {
	return gorgonia.NewTensor(b.g, dt, len(shape), gorgonia.WithShape(shape...),
		gorgonia.WithName(fmt.Sprintf("%d#%s", b.salt, name)))
}

// apply adds an op, unless the pass has already failed.
func (b *Builder) apply(attr Attr, in ...*Node) *Node {
	if b.err != nil {
		return nil
	}
	n, err := apply(&Op{Attr: attr, salt: b.salt}, in...)
	b.err = err
	return n
}

// failed says that an op's method must return at once, because an operand is missing after an earlier error.
func (b *Builder) failed() bool { return b.err != nil }

// Build calls f with a Builder and returns both. Should two ops share a 32-bit hash, it starts again with other
// hashes; f must therefore build the same pass each time.
func Build(B, T int, f func(b *Builder) error) (*Builder, error) {
	for salt := uint32(0); ; salt++ {
		b := newBuilder(B, T, salt)
		err := f(b)
		if err == nil {
			err = b.err
		}
		if !errors.Is(err, errCollision) || salt == 8 {
			return b, err
		}
	}
}

// want panics when a shape is not what an op needs.
func want(ok bool, format string, args ...any) {
	if !ok {
		panic("graph: " + fmt.Sprintf(format, args...))
	}
}

// rows is the product of all but the last n dims.
func rows(s tensor.Shape, n int) int {
	r := 1
	for _, d := range s[:len(s)-n] {
		r *= d
	}
	return r
}
