//go:build gpu

package cuda

import (
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
	if d.steps(layer, read, q) {
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
		dense = d.take(d.t, d.n, a.H*E)
		d.place(d.queryPart(q, a.H, 0, dense.buf, E, dense.width))
	}
	if has(parts, few) || has(parts, plain) {
		qa, sums = d.take(d.t, d.n, a.H*(L+a.R)), d.take(d.t, d.n, a.H*L)
		// the rotated columns only, behind the L that absorption makes
		to := device.Buffer{Ptr: qa.buf.Ptr + device.Ptr((L-a.D)*d.t.Size()), N: qa.buf.N, Type: d.t}
		d.place(d.queryPart(q, a.H, a.D, to, L+a.R, qa.width))
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

// absorb is q·Wukᵀ of each head of some tokens, from queries at a stride to heads that lie head elements apart.
func (d *Device) absorb(a attention.LatentRead, tokens int, q, qa device.Buffer, stride, head int) {
	_, L := a.Latents()
	E, w := a.D+a.R, d.weights.heads[a.Wukv.Name].uk
	if d.small(a.D) && E%8 == 0 && stride%8 == 0 && q.Ptr%16 == 0 {
		d.run(&kernels.StepHeads{Rows: tokens, H: a.H, In: a.D, Out: L, LdX: stride, StepX: E, LdY: a.H * head,
			StepY: head, X: q, W: w, Y: qa})
		return
	}
	d.run(&kernels.Gemm{
		TransB: true, M: tokens, N: L, K: a.D, A: q, B: w, C: qa,
		Lda: stride, Ldb: a.D, Ldc: a.H * head, Batch: a.H, StrideA: E, StrideB: L * a.D, StrideC: head,
	})
}

// expand is o·Wuv of each head of some tokens, and its bias.
func (d *Device) expand(a attention.LatentRead, tokens int, o, y device.Buffer) {
	_, L := a.Latents()
	w := d.weights.heads[a.Wukv.Name]
	if d.small(L) {
		d.run(&kernels.StepHeads{
			Rows: tokens, H: a.H, In: L, Out: a.D, LdX: a.H * L, StepX: L, LdY: a.H * a.D, StepY: a.D, X: o, W: w.uv,
			Bias: w.bias, Y: y,
		})
		return
	}
	d.run(&kernels.Gemm{
		TransB: true, M: tokens, N: a.D, K: L, A: o, B: w.uv, C: y, Bias: w.bias,
		Lda: a.H * L, Ldb: L, Ldc: a.H * a.D, Batch: a.H, StrideA: L, StrideB: a.D * L, StrideC: a.D,
	})
}

// attendExpanded is attention to latents that are expanded for it.
func (d *Device) attendExpanded(layer int, s segment, a attention.LatentRead, q, y *tensor) {
	n, L := a.Latents()
	w, mark, rows, out := d.weights.single[a.Wukv.Name], d.arena.used, s.b*(s.start+s.t), a.H/n*2*a.D
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
	k := &kernels.Attention{H: a.H, G: a.H, P: a.D, R: a.R, Dv: a.D, Scale: float32(a.Scale),
		KStride: 2 * a.D, VStride: 2 * a.D}
	k.K, k.V, k.KRope = kv, kv.Slice(a.D, kv.N), d.together(layer, a.KRope, s)
	d.train(k, s, q, y)
	d.arena.used = mark
}
