package graph

import (
	"slices"

	"gorgonia.org/tensor"
)

// Weights that are divided among the ranks (ShardWeights) are values of the arena like activations. A gather brings a
// parameter, from the ranks that have it, ahead of the first instruction that reads it, and it is dropped after the
// last; where its next reader is far, as it is between forward and backward, it is gathered again. Its gradient is
// summed to the ranks that update it as soon as it is whole, and dropped as well.

// A Gather is an instruction that brings elements Lo to Hi of the flat buffer of weights, beside those that follow it.
type Gather struct {
	last
	*pending
	Lo, Hi int
}

// A Collect takes what a Reduce has brought into this rank's gradients: elements Lo to Hi of the operand.
type Collect struct {
	last
	*pending
	Lo, Hi int
}

func (Gather) Kind() string             { return "gather" }
func (Gather) outputs() []tensor.Shape  { return nil }
func (Collect) Kind() string            { return "collect" }
func (Collect) outputs() []tensor.Shape { return nil }

// keptGathers is how many gathers of other weights one outlives between two of its readers.
const keptGathers = 4

// gather has the steps read weights that are gathered for them. The gather of one weight begins before the first reader
// of the one before, and so runs beside it.
func (p *planner) gather(weights map[*value]span) {
	type copied struct {
		v  *value
		at int // how many gathers there had been when it was read last
	}
	var (
		copies = map[*value]*copied{}
		steps  []*step
		count  int
		ahead  int // where the next gather may begin
	)
	for _, s := range p.steps {
		for i, w := range s.in {
			where, ok := weights[w]
			if !ok {
				continue
			}
			c := copies[w]
			if c == nil || count-c.at > keptGathers {
				c = &copied{v: p.newValue(w.len, p.activation)}
				copies[w] = c
				end := &pending{}
				g := &step{id: s.id, attr: Gather{pending: end, Lo: where.lo, Hi: where.hi}, out: []*value{c.v}, outputs: 1,
					accumulate: make([]bool, 1)}
				c.v.written(g, 0)
				steps = slices.Insert(steps, ahead, g)
				at := len(steps)
				if at > 0 && joins(steps[at-1], s) {
					at--
				}
				steps = slices.Insert(steps, at, &step{id: s.id, attr: Arrived{pending: end}, in: []*value{c.v}})
				ahead = at + 1
				count++
			}
			c.at = count
			s.in[i] = c.v
		}
		steps = append(steps, s)
	}
	p.steps = steps
}

// A span is elements lo to hi of a flat buffer.
type span struct{ lo, hi int }

// A gradient is a value that is to be summed over the ranks, and where it lies in the flat buffer.
type gradient struct {
	v *value
	span
}

// reduce sums gradients to the ranks that update them, each as soon as its last step is done. What arrives is collected
// when the next has begun.
func (p *planner) reduce(s *Store, gradients []gradient) {
	whole := map[int][]gradient{} // by the step that is the last to write them
	for _, g := range gradients {
		at := -1
		for i, st := range p.steps {
			if slices.ContainsFunc(st.out, func(v *value) bool { return v.root() == g.v }) {
				at = i
			}
		}
		whole[at] = append(whole[at], g)
	}
	var steps, arriving []*step
	for i, st := range p.steps {
		steps = append(steps, st)
		for _, g := range whole[i] {
			var begun []*step
			for _, piece := range s.pieces(g.span) {
				end, lo, hi := &pending{}, piece.lo-g.lo, piece.hi-g.lo
				begun = append(begun, &step{id: st.id, attr: Reduce{pending: end, To: piece.rank, Lo: lo, Hi: hi},
					in: []*value{g.v}})
				arrival := &step{id: st.id, attr: Arrived{pending: end}, in: []*value{g.v}}
				if piece.rank == s.Group.Rank() {
					own := s.grads.part(piece.lo, piece.hi)
					out := &value{len: own.Len, dtype: own.Type, fixed: &own}
					arrival = &step{id: st.id, attr: Collect{pending: end, Lo: lo, Hi: hi}, in: []*value{g.v}, out: []*value{out},
						outputs: 1, accumulate: make([]bool, 1)}
					out.written(arrival, 0)
				}
				begun = append(begun, arrival)
			}
			for j := 0; j < len(begun); j += 2 {
				steps = append(steps, begun[j])
			}
			steps, arriving = append(steps, arriving...), nil
			for j := 1; j < len(begun); j += 2 {
				arriving = append(arriving, begun[j])
			}
		}
	}
	p.steps = append(steps, arriving...)
}

// A piece is what one rank updates of a span.
type piece struct {
	span
	rank int
}

// pieces divides a span among the ranks that update it.
func (s *Store) pieces(of span) (out []piece) {
	part := s.size / s.Group.Size()
	for r := of.lo / part; r*part < of.hi; r++ {
		out = append(out, piece{span{max(of.lo, r*part), min(of.hi, (r+1)*part)}, r})
	}
	return out
}

// gather compiles the copy of elements lo to hi of the weights to dst.
func (s *Store) gather(dst Buf, lo, hi int) (start, wait Kernel, err error) {
	var starts, waits []Kernel
	for _, p := range s.pieces(span{lo, hi}) {
		var src Buf
		if p.rank == s.Group.Rank() {
			src = s.compute.part(p.lo, p.hi)
		}
		begin, end, err := s.Group.Broadcast(dst.part(p.lo-lo, p.hi-lo), src, p.rank)
		if err != nil {
			return nil, nil, err
		}
		starts, waits = append(starts, begin), append(waits, end)
	}
	return inOrder(starts), inOrder(waits), nil
}
