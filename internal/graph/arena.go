package graph

import (
	"cmp"
	"fmt"
	"slices"
)

// align keeps every buffer on a boundary that suits the widest loads of any backend.
const align = 256

func alignUp(n int) int { return (n + align - 1) / align * align }

// Arena has the bytes that planning by liveness needs, and those that a place of its own for every value would.
type Arena struct{ Planned, Unplanned int }

// layout gives each value in the arena an offset such that no two values that live at the same time overlap: large
// values first, each at the lowest offset that is free for its whole life.
func (p *planner) layout() (a Arena) {
	live := p.lifetimes()
	slices.SortStableFunc(live, func(a, b *value) int { return cmp.Compare(b.bytes(), a.bytes()) })
	var placed []*value // by offset
	for _, v := range live {
		off := 0
		for _, o := range placed {
			if o.def > v.end || v.def > o.end {
				continue
			}
			if off+v.bytes() <= o.off {
				break
			}
			off = max(off, o.off+o.bytes())
		}
		v.off = off
		i, _ := slices.BinarySearchFunc(placed, v, func(a, b *value) int { return cmp.Compare(a.off, b.off) })
		placed = slices.Insert(placed, i, v)
		a.Planned = max(a.Planned, off+v.bytes())
	}
	for _, v := range p.values {
		if v.fixed == nil && v.root().fixed == nil && v.first != nil && !v.missing() {
			a.Unplanned += v.bytes()
		}
	}
	return a
}

func (v *value) bytes() int { return alignUp(v.len * v.dtype.Size()) }

// missing says that v is an optional output that nobody reads.
func (v *value) missing() bool {
	return v.first != nil && optional(v.first.attr) && v.slot > 0 && len(v.uses) == 0 && !v.kept && v.fixed == nil
}

// optional says that a kernel can leave out its outputs but the first.
func optional(a Attr) bool {
	_, ok := a.(Loss)
	return ok
}

// lifetimes finds the first and last step of every value that lives in the arena.
func (p *planner) lifetimes() (live []*value) {
	seen := map[*value]bool{}
	touch := func(v *value, i int) {
		v = v.root()
		if v.fixed != nil || v.missing() {
			return
		}
		if !seen[v] {
			seen[v] = true
			v.def = i
			live = append(live, v)
		}
		v.end = i
	}
	for i, s := range p.steps {
		for _, v := range s.in {
			touch(v, i)
		}
		for _, v := range s.out {
			touch(v, i)
		}
	}
	for _, v := range live {
		if v.kept {
			v.end = len(p.steps)
		}
	}
	return live
}

// bind turns steps into instructions on the arena.
func (p *planner) bind(arena Memory) []*Instr {
	buf := func(v *value) Buf {
		v = v.root()
		switch {
		case v.fixed != nil:
			return *v.fixed
		case v.missing():
			return Buf{}
		}
		return Buf{Mem: arena, Off: v.off, Len: v.len, Type: v.dtype}
	}
	instrs := make([]*Instr, len(p.steps))
	for i, s := range p.steps {
		in := &Instr{Attr: s.attr}
		for _, v := range s.in {
			in.In = append(in.In, buf(v))
		}
		for j, v := range s.out {
			o := Out{Buf: buf(v), Accumulate: s.accumulate[j]}
			if j < s.outputs {
				in.Out = append(in.Out, o)
			} else {
				in.Aux = append(in.Aux, o)
			}
		}
		instrs[i] = in
	}
	return instrs
}

// apart holds an instruction against the rule that all kernels rely on: the threads of one run in any order, so that
// none may write where it reads, but for those that work in place, element by element.
func (in *Instr) apart() error {
	outs := slices.Concat(in.Out, in.Aux)
	for i, out := range outs {
		for j, x := range in.In {
			if out.overlaps(x) && !(inPlace(in.Attr, i) && out.Buf == x) {
				return fmt.Errorf("graph: the plan has %s write output %d over operand %d, which it reads: a fault of this program",
					in.Attr.Kind(), i, j)
			}
		}
		for j, other := range outs[:i] {
			if out.overlaps(other.Buf) {
				return fmt.Errorf("graph: the plan has %s write outputs %d and %d to the same place: a fault of this program",
					in.Attr.Kind(), j, i)
			}
		}
	}
	return nil
}

// inPlace says that a kernel may write output slot over an operand of the same elements.
func inPlace(a Attr, slot int) bool {
	switch a.(type) {
	case Add, Rope:
		return true
	case AddRMSNorm:
		return slot == 0 // the sum
	}
	return false
}

func (b Buf) overlaps(c Buf) bool {
	return b.Mem != nil && b.Mem == c.Mem && b.Off < c.Off+c.Len*c.Type.Size() && c.Off < b.Off+b.Len*b.Type.Size()
}
