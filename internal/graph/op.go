package graph

import (
	"errors"
	"fmt"
	"hash"
	"hash/fnv"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// An Op is one application of an Attr in the expression graph. It implements gorgonia.SDOp; Do runs the CPU kernels,
// so that gorgonia's tape machine can serve as the oracle of our own executor.
type Op struct {
	Attr Attr

	// Forward is the op whose aux buffers this op reads, nil for most.
	Forward *Op

	in   []operand
	salt uint32
	aux  [][]float32 // of the last Do
}

type operand struct {
	dtype tensor.Dtype
	dims  int
}

func (o operand) hmType() hm.Type {
	if o.dims == 0 {
		return o.dtype
	}
	return gorgonia.TensorType{Dims: o.dims, Of: o.dtype}
}

// shape is the op's output shape in the graph: the one output, or the length of the flat vector of several.
func (o *Op) shape() tensor.Shape {
	outs := o.Attr.outputs()
	if len(outs) == 1 {
		return outs[0]
	}
	n := 0
	for _, s := range outs {
		n += s.TotalSize()
	}
	return tensor.Shape{n}
}

func (o *Op) Arity() int { return len(o.in) }

// Type builds a new type at each call: gorgonia puts the types that it gets into a pool, so that one that was kept
// would be reused in other graphs.
func (o *Op) Type() hm.Type {
	ts := make([]hm.Type, 0, len(o.in)+1)
	for _, in := range o.in {
		ts = append(ts, in.hmType())
	}
	ts = append(ts, operand{tensor.Float32, o.shape().Dims()}.hmType())
	return hm.NewFnType(ts...)
}

func (o *Op) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) { return o.shape().Clone(), nil }
func (o *Op) ReturnsPtr() bool                                      { return true }
func (o *Op) CallsExtern() bool                                     { return false }
func (o *Op) OverwritesInput() int                                  { return -1 }
func (o *Op) String() string                                        { return o.Attr.Kind() }

// WriteHash covers all that tells two ops apart but their operands, which gorgonia hashes itself. Attributes are
// plain structs, so their printed form is exact.
func (o *Op) WriteHash(h hash.Hash) {
	fmt.Fprintf(h, "headroom|%d|%s|%#v|%v", o.salt, o.Attr.Kind(), o.Attr, o.in)
}

func (o *Op) Hashcode() uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

// DiffWRT answers for every operand, always: an empty answer cuts the graph in two for gorgonia.Grad.
func (o *Op) DiffWRT(int) []bool {
	d := make([]bool, len(o.in))
	for i, in := range o.in {
		d[i] = in.dtype == tensor.Float32
	}
	return d
}

// SymDiff is the symbolic gradient gorgonia.Grad asks for.
func (o *Op) SymDiff(inputs gorgonia.Nodes, output, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	return o.Attr.grad(&applied{op: o, in: inputs, out: output, dout: grad})
}

// applied is an op with its operands, its result and the gradient of its result: what a symbolic gradient is made of.
type applied struct {
	op   *Op
	in   gorgonia.Nodes
	out  *gorgonia.Node
	dout *gorgonia.Node
}

// apply builds a node of the gradient. An attr that reads aux buffers reads those of the op being differentiated.
func (a *applied) apply(attr Attr, in ...*Node) (*Node, error) {
	op := &Op{Attr: attr, salt: a.op.salt}
	if readsAux(attr) {
		op.Forward = a.op
	}
	return apply(op, in...)
}

func readsAux(a Attr) bool {
	switch a.(type) {
	case RMSNormGrad, AttendGrad, Saved:
		return true
	}
	return false
}

// parts applies attr and selects each of its outputs.
func (a *applied) parts(attr Attr, in ...*Node) (gorgonia.Nodes, error) {
	flat, err := a.apply(attr, in...)
	if err != nil {
		return nil, err
	}
	shapes := attr.outputs()
	nodes := make(gorgonia.Nodes, len(shapes))
	offset := 0
	for i, s := range shapes {
		if nodes[i], err = a.apply(Part{Index: i, Offset: offset, Shape: toShape4(s)}, flat); err != nil {
			return nil, err
		}
		offset += s.TotalSize()
	}
	return nodes, nil
}

// errCollision reports two different ops under one 32-bit hash. Build answers it with another salt.
var errCollision = errors.New("graph: two different nodes have the same hash")

// apply adds an op to the graph of its operands. gorgonia merges nodes of equal hash without looking at their
// children, so the children of what came back are compared with those that went in.
func apply(op *Op, in ...*Node) (*Node, error) {
	for _, n := range in {
		op.in = append(op.in, operand{n.Dtype(), n.Shape().Dims()})
	}
	n, err := gorgonia.ApplyOp(op, in...)
	if err != nil {
		return nil, fmt.Errorf("graph: %s: %w", op.Attr.Kind(), err)
	}
	for i, it := 0, n.Graph().From(n.ID()); it.Next(); i++ {
		if it.Node().(*Node) != in[i] {
			return nil, errCollision
		}
	}
	if got, ok := n.Op().(*Op); !ok || got.Attr.Kind() != op.Attr.Kind() {
		return nil, errCollision
	}
	return n, nil
}
