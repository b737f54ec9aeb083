//go:build gpu

package cuda

import (
	"cmp"
	"fmt"
	"slices"

	"headroom/attention"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/kernels"
)

// AttendLatent runs absorbed where few tokens are new, and on latents that are expanded for the pass where many are,
// since that takes fewer operations then.
func (d *Device) AttendLatent(layer int, queries graph.Buf, a attention.LatentRead) graph.Buf {
	_, L := a.Latents()
	q, E, read := d.need(of(queries)), a.D+a.R, a.Absorbed()
	if q.rotation != nil && q.rotation.r > a.R {
		panic(fmt.Sprintf("decode: %d columns of queries are rotated, and only %d are not absorbed", q.rotation.r, a.R))
	}
	y := d.take(d.t, d.n, a.H*a.D)
	if a.Branches <= 1 && d.steps(layer, read, q) {
		qa, sums := d.take(d.t, d.n, a.H*L), d.take(d.t, d.n, a.H*L)
		d.absorb(a, d.n, q.rows(0, d.n), qa.buf, q.stride, L)
		k := d.stepAttend(layer, read, q, a.H, sums)
		k.Q, k.QRow, k.QHead = qa.buf, qa.stride, L
		d.run(k)
		d.expand(a, d.n, sums.buf, y.buf)
		return give(y)
	}
	var dense, qa, sums *tensor
	parts := d.partsOf(layer)
	if has(parts, long) {
		dense = d.take(d.t, d.n, a.Reads()*E)
		d.place(d.queryParts(q, a, 0, dense.buf, E, dense.width)...)
	}
	if has(parts, few) || has(parts, plain) {
		qa, sums = d.take(d.t, d.n, a.Reads()*(L+a.R)), d.take(d.t, d.n, a.Reads()*L)
		// the rotated columns only, behind the L that absorption makes
		to := device.Buffer{Ptr: qa.buf.Ptr + device.Ptr((L-a.D)*d.t.Size()), N: qa.buf.N, Type: d.t}
		d.place(d.queryParts(q, a, a.D, to, L+a.R, qa.width)...)
	}
	for _, s := range parts {
		if s.how == long {
			d.attendExpanded(layer, s, a, dense, y)
			continue
		}
		lo, hi := s.token, s.token+s.n
		d.absorb(a, s.n, q.rows(lo, hi), qa.rows(lo, hi), q.stride, L+a.R)
		d.attendFew(layer, s, read, qa.rows(lo, hi), sums.rows(lo, hi))
		d.expand(a, s.n, sums.rows(lo, hi), y.rows(lo, hi))
	}
	return give(y)
}

func has(parts []segment, m manner) bool {
	return slices.ContainsFunc(parts, func(s segment) bool { return s.how == m })
}

// branches are the latents that are read apart: for each the first of the heads that read it, among all heads and among
// the pairs of a head and a latent, and their number. Latents that heads read alone are one, since a head of their
// cache follows from that of the query.
func branches(a attention.LatentRead) (all []branch) {
	n, _ := a.Latents()
	if a.Branches <= 1 {
		return []branch{{0, 0, a.H, false}}
	}
	for i := range n {
		own := a.Reads() / n
		all = append(all, branch{i / a.Branches * own, i * own, own, i%a.Branches > 0})
	}
	return all
}

type branch struct {
	from, at, heads int
	adds            bool // to the output of the latent before
}

// queryParts are queryPart for the heads of each branch.
func (d *Device) queryParts(q *tensor, a attention.LatentRead, first int, to device.Buffer, head, row int) (
	all []kernels.DecodePart) {
	for _, b := range branches(a) {
		p := d.queryPart(q, a.H, first, to, head, row)
		p.Heads, p.X = b.heads, p.X.Slice(b.from*p.XHead, p.X.N)
		p.Y.Ptr += device.Ptr(b.at * head * d.t.Size())
		all = append(all, p)
	}
	return all
}

// absorb is q·Wukᵀ of each head of some tokens, from queries at a stride to heads that lie head elements apart.
func (d *Device) absorb(a attention.LatentRead, tokens int, q, qa device.Buffer, stride, head int) {
	for _, b := range branches(a) {
		d.absorbBranch(a, b, tokens, q.Slice(b.from*(a.D+a.R), q.N), qa.Slice(b.at*head, qa.N), stride, head)
	}
}

func (d *Device) absorbBranch(a attention.LatentRead, b branch, tokens int, q, qa device.Buffer, stride, head int) {
	_, L := a.Latents()
	E, w, all := a.D+a.R, d.weights.heads[a.Wukv.Name].uk, a.Reads()
	w = w.Slice(b.at*L*a.D, w.N)
	if d.small(a.D) && E%8 == 0 && stride%8 == 0 && q.Ptr%16 == 0 {
		d.run(&kernels.StepHeads{Rows: tokens, H: b.heads, In: a.D, Out: L, LdX: stride, StepX: E, LdY: all * head,
			StepY: head, X: q, W: w, Y: qa})
		return
	}
	d.run(&kernels.Gemm{
		TransB: true, M: tokens, N: L, K: a.D, A: q, B: w, C: qa,
		Lda: stride, Ldb: a.D, Ldc: all * head, Batch: b.heads, StrideA: E, StrideB: L * a.D, StrideC: head,
	})
}

// expand is o·Wuv of each head of some tokens, summed over its branches, and its bias.
func (d *Device) expand(a attention.LatentRead, tokens int, o, y device.Buffer) {
	_, L := a.Latents()
	w := d.weights.heads[a.Wukv.Name]
	if a.Branches <= 1 && d.small(L) {
		d.run(&kernels.StepHeads{
			Rows: tokens, H: a.H, In: L, Out: a.D, LdX: a.H * L, StepX: L, LdY: a.H * a.D, StepY: a.D, X: o, W: w.uv,
			Bias: w.bias, Y: y,
		})
		return
	}
	for _, b := range branches(a) {
		d.run(&kernels.Gemm{
			TransB: true, M: tokens, N: a.D, K: L, A: o.Slice(b.at*L, o.N), B: w.uv.Slice(b.at*a.D*L, w.uv.N),
			C: y.Slice(b.from*a.D, y.N), Bias: w.bias, Accumulate: b.adds,
			Lda: a.Reads() * L, Ldb: L, Ldc: a.H * a.D, Batch: b.heads, StrideA: L, StrideB: a.D * L, StrideC: a.D,
		})
	}
}

// attendExpanded is attention to latents that are expanded for it, by an Wukv that has the latents' factor in it.
func (d *Device) attendExpanded(layer int, s segment, a attention.LatentRead, q, y *tensor) {
	n, L := a.Latents()
	w, mark, rows, out := d.weights.single[a.Wukv.Name], d.arena.used, s.b*(s.start+s.t), a.Heads()/n*2*a.D
	c := d.together(layer, a.C, s)
	kv := d.arena.take(d.t, rows*n*out)
	g := &kernels.Gemm{
		M: rows, N: out, K: L, A: c, B: w, C: kv, Lda: n * L, Ldb: out, Ldc: n * out, Batch: n, StrideA: L, StrideB: L * out,
		StrideC: out,
	}
	if a.Bukv != nil {
		g.Bias = d.weights.single[a.Bukv.Name]
	}
	d.run(g)
	k := &kernels.Attention{H: a.Reads(), G: a.Heads(), P: a.D, R: a.R, Dv: a.D, Scale: float32(a.Scale),
		KStride: 2 * a.D, VStride: 2 * a.D}
	k.K, k.V, k.KRope = kv, kv.Slice(a.D, kv.N), d.together(layer, a.KRope, s)
	if a.Branches <= 1 && a.Sum == 0 {
		d.train(k, s, q, y)
	} else {
		each, times := d.take(d.t, d.n, a.Reads()*a.D), max(1, a.Branches)
		d.train(k, s, q, each)
		d.run(&kernels.Fold{X: each.rows(s.token, s.token+s.n), Y: y.rows(s.token, s.token+s.n), Rows: s.n * n / times,
			Times: times, Inner: a.Reads() / n * a.D, Scale: float32(cmp.Or(a.Sum, 1))})
	}
	d.arena.used = mark
}
