package graph

import "slices"

// AddRMSNorm is the sum of a residual and a layer's output, and its norm, in one pass: sum = x + y and
// rmsnorm(sum)·w. It is an instruction of backends that fuse, never a node.
type AddRMSNorm struct{ RMSNorm }

// Kind names the fused pair.
func (AddRMSNorm) Kind() string { return "add.rmsnorm" }

// A fuser is a backend that has kernels for fused pairs.
type fuser interface{ fuses() }

// fuse joins each sum with the norm that follows it and reads it, before values have a place: what the pair reads lives
// until all that it writes is written. In is x, y, w; out is the sum, the norm and its rstd.
func (p *planner) fuse() {
	var steps []*step
	for _, s := range p.steps {
		if len(steps) > 0 && joins(steps[len(steps)-1], s) {
			add := steps[len(steps)-1]
			steps[len(steps)-1] = &step{
				id: s.id, attr: AddRMSNorm{s.attr.(RMSNorm)}, in: []*value{add.in[0], add.in[1], s.in[1]}, outputs: 2,
				out: slices.Concat(add.out, s.out), accumulate: slices.Concat(add.accumulate, s.accumulate),
			}
			continue
		}
		steps = append(steps, s)
	}
	p.steps = steps
}

// joins says that a step is a sum, and the next the norm of it.
func joins(a, b *step) bool {
	_, add := a.attr.(Add)
	norm, ok := b.attr.(RMSNorm)
	return add && ok && norm.Groups == 1 && b.in[0].root() == a.out[0].root()
}
