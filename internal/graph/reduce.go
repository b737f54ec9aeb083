package graph

import (
	"cmp"
	"slices"

	"gorgonia.org/tensor"
)

// A Reduce is an instruction that sums elements Lo to Hi of its operand over the ranks of a group, to rank To, beside
// the instructions that follow. It is never a node.
type Reduce struct {
	last
	*pending
	To, Lo, Hi int
}

// Arrived makes the instructions after it wait for the end of a collective.
type Arrived struct {
	last
	*pending
}

// pending is the end of a collective that has been compiled.
type pending struct{ wait Kernel }

func (Reduce) Kind() string             { return "reduce" }
func (Reduce) outputs() []tensor.Shape  { return nil }
func (Arrived) Kind() string            { return "arrived" }
func (Arrived) outputs() []tensor.Shape { return nil }

// bucketBytes is the least that is reduced at once, where a rank's part is that large: enough for the links' full
// speed, and little enough that all but the last find a backward pass to run beside.
var bucketBytes = 32 << 20

// reductions adds to a program the sum of the gradients over the ranks, each bucket after the instruction that writes
// the last of it. A bucket is a run of whole parameters, or the ends of some, that one rank updates.
func (t *Trainer) reductions(instrs []*Instr) []*Instr {
	s := t.store
	if s.Group == nil || s.Shard == ShardWeights {
		return instrs
	}
	type bucket struct {
		piece
		after int
	}
	var buckets []bucket
	starts := slices.Sorted(slices.Values(s.offset))
	for _, part := range s.pieces(span{0, s.size}) {
		for lo := part.lo; lo < part.hi; {
			hi := part.hi
			if i, _ := slices.BinarySearch(starts, lo+max(1, bucketBytes/F32.Size())); i < len(starts) {
				hi = min(hi, starts[i])
			}
			if after := lastWriter(instrs, s.grads.part(lo, hi)); after >= 0 {
				buckets = append(buckets, bucket{piece{span{lo, hi}, part.rank}, after})
			}
			lo = hi
		}
	}
	slices.SortStableFunc(buckets, func(a, b bucket) int { return cmp.Compare(a.after, b.after) })
	var out, ends []*Instr
	for i, in := range instrs {
		out = append(out, in)
		for ; len(buckets) > 0 && buckets[0].after == i; buckets = buckets[1:] {
			b, p := buckets[0], &pending{}
			out = append(out, &Instr{Attr: Reduce{pending: p, To: b.rank, Hi: b.hi - b.lo}, In: []Buf{s.grads.part(b.lo, b.hi)}})
			ends = append(ends, &Instr{Attr: Arrived{pending: p}})
		}
	}
	return append(out, ends...)
}

// lastWriter is the last instruction that writes into a buffer, -1 if none does.
func lastWriter(instrs []*Instr, b Buf) int {
	for i := len(instrs) - 1; i >= 0; i-- {
		for _, o := range slices.Concat(instrs[i].Out, instrs[i].Aux) {
			if o.Mem == b.Mem && o.Off < b.Off+b.Len*b.Type.Size() && b.Off < o.Off+o.Len*o.Type.Size() {
				return i
			}
		}
	}
	return -1
}
