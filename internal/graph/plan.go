package graph

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"gorgonia.org/gorgonia"
)

// A value is a piece of storage in a plan: the place of a node, of one output of a node with several, or of an aux
// buffer. Views share the value of what they view.
type value struct {
	len      int
	dtype    DType
	fixed    *Buf   // outside the arena: a parameter, an input, a gradient
	merged   *value // the value whose storage this one has taken over
	writer   *step  // the last step that writes it, and which of its outputs
	slot     int
	first    *step // the step that writes it first
	uses     []int64
	kept     bool // read from outside, to the end
	def, end int  // steps between which it lives
	off      int  // in the arena
}

func (v *value) root() *value {
	for v.merged != nil {
		v = v.merged
	}
	return v
}

// written notes that s writes v as its output slot.
func (v *value) written(s *step, slot int) {
	if v.first == nil {
		v.first = s
	}
	v.writer, v.slot = s, slot
}

// lastUse is the ID of the last node that reads the value.
func (v *value) lastUse() int64 {
	if len(v.uses) == 0 {
		return -1
	}
	return slices.Max(v.uses)
}

// A step is an instruction before its values have a place.
type step struct {
	id         int64
	attr       Attr
	in         []*value
	out        []*value // outputs, then aux
	outputs    int
	accumulate []bool // for each of out: add to what is there
}

// A planner lowers the nodes of a graph, in the order in which they were made, to steps over values.
type planner struct {
	activation DType
	nodes      []*Node // live ones, by ID
	steps      []*step
	values     []*value
	of         map[*Node][]*value // one value a node, several for nodes with parts
	aux        map[*Op][]*value
	leaf       func(n *Node) (*Buf, error) // where a parameter or an input lives
}

// lower plans the computation of outputs. Nodes that no output needs are left out. Where outputs are read from outside,
// no kernel writes over one.
func lower(activation DType, outputs []*Node, read bool, leaf func(*Node) (*Buf, error)) (*planner, error) {
	p := &planner{activation: activation, of: map[*Node][]*value{}, aux: map[*Op][]*value{}, leaf: leaf}
	if err := p.collect(outputs); err != nil {
		return nil, err
	}
	if err := p.place(); err != nil {
		return nil, err
	}
	for _, n := range p.nodes {
		p.use(n)
	}
	if read {
		for _, n := range outputs {
			v := p.of[n][0].root()
			v.uses = append(v.uses, math.MaxInt64)
		}
	}
	for _, n := range p.nodes {
		if err := p.emit(n); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// distinct says whether the nodes that outputs depend on have hashes of their own.
func distinct(outputs []*Node) error { return new(planner).collect(outputs) }

// collect finds the nodes that outputs depend on. IDs ascend from operands to results; a 32-bit hash that two nodes
// share would have made one of them wrong.
func (p *planner) collect(outputs []*Node) error {
	seen := map[*Node]bool{}
	var visit func(n *Node)
	visit = func(n *Node) {
		if seen[n] {
			return
		}
		seen[n] = true
		p.nodes = append(p.nodes, n)
		for _, c := range operands(n) {
			visit(c)
		}
	}
	for _, n := range outputs {
		visit(n)
	}
	slices.SortFunc(p.nodes, func(a, b *Node) int { return cmp.Compare(a.ID(), b.ID()) })
	hashes := map[uint32]*Node{}
	for _, n := range p.nodes {
		for _, c := range operands(n) {
			if c.ID() >= n.ID() {
				return fmt.Errorf("graph: node %v comes before its operand %v", n, c)
			}
		}
		if hashes[n.Hashcode()] != nil {
			return errCollision
		}
		hashes[n.Hashcode()] = n
	}
	return nil
}

// operands lists a node's children in the order of its op.
func operands(n *Node) (in []*Node) {
	for it := n.Graph().From(n.ID()); it.Next(); {
		in = append(in, it.Node().(*Node))
	}
	return in
}

// attrOf is what a node computes: one of our ops, or the sum that gorgonia.Grad inserts where gradients meet. It is
// nil for leaves.
func attrOf(n *Node) (Attr, *Op, error) {
	if n.Op() == nil {
		return nil, nil, nil
	}
	if op, ok := n.Op().(*Op); ok {
		return op.Attr, op, nil
	}
	if isConstant(n) {
		return nil, nil, nil
	}
	t := reflect.TypeOf(n.Op())
	if t.PkgPath() == "gorgonia.org/gorgonia" && t.Name() == "elemBinOp" && strings.HasPrefix(n.Op().String(), "+ ") {
		return Add{toShape4(n.Shape())}, nil, nil
	}
	return nil, nil, fmt.Errorf("graph: node %v has an op that is not ours: %T %v", n, n.Op(), n.Op())
}

func isConstant(n *Node) bool {
	c, ok := n.Op().(interface{ Value() gorgonia.Value })
	return ok && c != nil
}

// place gives every node its values. Views get those of their operand.
func (p *planner) place() error {
	for _, n := range p.nodes {
		attr, op, _ := attrOf(n)
		if err := fits(n.Shape()); err != nil {
			return err
		}
		switch a := attr.(type) {
		case nil:
			p.of[n] = []*value{p.newValue(n.Shape().TotalSize(), F32)}
		case Part:
			p.of[n] = p.of[operands(n)[0]][a.Index : a.Index+1]
		case Saved:
			p.of[n] = p.aux[op.Forward][a.Index : a.Index+1]
		case Reshape:
			p.of[n] = p.of[operands(n)[0]]
		default:
			for _, s := range attr.outputs() {
				p.of[n] = append(p.of[n], p.newValue(s.TotalSize(), p.storage(a)))
			}
			for _, x := range attr.aux() {
				t := p.activation
				if x.Stat {
					t = F32
				}
				if err := fits(x.Shape); err != nil {
					return err
				}
				p.aux[op] = append(p.aux[op], p.newValue(x.Shape.TotalSize(), t))
			}
		}
	}
	return nil
}

func (p *planner) newValue(n int, t DType) *value {
	v := &value{len: n, dtype: t}
	p.values = append(p.values, v)
	return v
}

// storage is the type of an op's outputs. Outputs that users read are float32.
func (p *planner) storage(a Attr) DType {
	switch a.(type) {
	case Loss, Logits:
		return F32
	}
	return p.activation
}

// reads lists the values that a node's kernel reads.
func (p *planner) reads(n *Node) (vs []*value) {
	attr, op, _ := attrOf(n)
	switch attr.(type) {
	case nil, Part, Saved, Reshape:
		return nil
	}
	for _, c := range operands(n) {
		vs = append(vs, p.of[c][0].root())
	}
	if op != nil && op.Forward != nil {
		vs = append(vs, p.aux[op.Forward]...)
	}
	return vs
}

func (p *planner) use(n *Node) {
	for _, v := range p.reads(n) {
		v.uses = append(v.uses, n.ID())
	}
}

// emit adds the step of a node, if it has one.
func (p *planner) emit(n *Node) error {
	attr, op, err := attrOf(n)
	if err != nil {
		return err
	}
	switch a := attr.(type) {
	case nil:
		if isConstant(n) {
			return nil
		}
		p.of[n][0].fixed, err = p.leaf(n)
		return err
	case Part, Saved, Reshape:
		return nil
	case Add:
		if p.sumInPlace(n, a) {
			return nil
		}
	}
	s := &step{id: n.ID(), attr: attr, in: p.reads(n), out: slices.Clone(p.of[n]), outputs: len(p.of[n])}
	if op != nil {
		s.out = append(s.out, p.aux[op]...)
	}
	s.accumulate = make([]bool, len(s.out))
	for i, v := range s.out {
		v.written(s, i)
	}
	p.steps = append(p.steps, s)
	p.reuseOperand(n, s)
	return nil
}

// sumInPlace turns a + b into one of the two being added to the other by the kernel that makes it, so that the sum
// costs nothing. It needs a later operand whose kernel can accumulate and whose only reader is the sum, and an earlier
// one that nobody reads after that kernel.
func (p *planner) sumInPlace(n *Node, a Add) bool {
	in := operands(n)
	early, late, sum := p.of[in[0]][0].root(), p.of[in[1]][0].root(), p.of[n][0]
	if early == late || early.writer == nil || late.writer == nil {
		return false
	}
	if early.writer.id > late.writer.id {
		early, late = late, early
	}
	w, slot := late.writer, late.slot
	if early.writer == w || w.accumulate[slot] || !accumulates(w.attr, slot) || len(late.uses) != 1 ||
		early.dtype != late.dtype {
		return false
	}
	for _, id := range early.uses {
		if id != n.ID() && id >= w.id {
			return false
		}
	}
	w.accumulate[slot] = true
	early.written(w, slot)
	late.merged, sum.merged = early, early
	early.uses = slices.DeleteFunc(early.uses, func(id int64) bool { return id == n.ID() })
	early.uses = append(early.uses, sum.uses...)
	return true
}

// reuseOperand lets an element-wise step write over an operand that nobody reads afterwards.
func (p *planner) reuseOperand(n *Node, s *step) {
	switch s.attr.(type) {
	case Add, Rope:
	default:
		return
	}
	out := s.out[0]
	for _, v := range s.in {
		if v.writer == nil || v.lastUse() > n.ID() || v.dtype != out.dtype || v.len != out.len {
			continue
		}
		v.uses = append(v.uses, out.uses...)
		out.merged = v
		v.written(s, 0)
		return
	}
}

// accumulates says whether the kernel of an op can add to what its output holds, rather than overwrite it. Slots
// count the outputs, then the aux buffers.
func accumulates(a Attr, slot int) bool {
	switch a.(type) {
	case LinearDX, LinearDW, ColSum, EmbedGrad, Copy:
		return true
	case RMSNormGrad:
		return true
	case AddScaledGrad:
		return slot == 1 // that of the gains
	case Loss:
		return slot == 2 // the gradient of the head
	}
	return false
}
