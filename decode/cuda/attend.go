//go:build gpu

package cuda

import (
	"slices"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/kernels"
)

// An entry is what the tokens leave in a slot of a layer's cache. It waits for an attention, whose launch writes it
// together with placing the queries, or for the end of the layer.
type entry struct {
	layer, slot int
	v           *tensor
}

// A segment is requests of a batch, one after the other, that attend in one launch: b rows from row on, which have n
// tokens from token on.
type segment struct {
	how      manner
	row, b   int
	token, n int
	t, start int // tokens of each request; of long ones, those that were there before
}

// A manner is the choice of kernel by which a segment attends.
type manner int

const (
	few   manner = iota // the kernels of decoding, for up to decodeTokens new tokens of each request
	plain               // the plain kernel, for any number
	long                // the kernel of training, for more; the request's tokens are brought side by side for it
)

// decodeTokens is how many new tokens of a request the kernels of decoding take.
const decodeTokens = 8

// takes says which kernels besides the plain one support the dims of a layer.
type takes int

const (
	byDecoding takes = 1 << iota
	byTraining
	noneAbove
)

// long is the manner of requests with many new tokens.
func (by takes) long() manner {
	if by&byTraining != 0 {
		return long
	}
	return plain
}

// few is the manner of those with few.
func (by takes) few() manner {
	if by&byDecoding != 0 {
		return few
	}
	return plain
}

// divide cuts the batch into segments once for all layers that the same kernels take.
func (d *Device) divide(cut func(by takes) []segment) {
	d.parts = [noneAbove][]segment{}
	for _, by := range d.takes {
		if d.parts[by] == nil {
			d.parts[by] = cut(by)
		}
	}
}

// segments cuts a batch for the layers that such kernels take.
func segments(rows []decode.Row, by takes) (all []segment) {
	for i, r := range rows {
		s := segment{how: plain, row: i, b: 1, token: r.From, n: r.T, t: r.T, start: r.Start}
		switch {
		case r.T > decodeTokens:
			s.how = by.long()
		case by.few() == few:
			s.how, s.start = few, 0
		}
		if n := len(all); n > 0 {
			last := &all[n-1]
			if last.how == s.how && (s.how == plain || last.t == s.t && last.start == 0 && s.start == 0) {
				last.b++
				last.n += s.n
				continue
			}
		}
		all = append(all, s)
	}
	return all
}

func (d *Device) partsOf(layer int) []segment { return d.parts[d.takes[layer]] }

// Rope marks a tensor to be rotated where it goes.
func (d *Device) Rope(x graph.Buf, heads, r int, rotary graph.Rotary) graph.Buf {
	operand(x).rotation = &rotation{heads, r, rotary}
	return x
}

// Append adds an entry, which waits.
func (d *Device) Append(layer, slot int, x graph.Buf) {
	d.entries = append(d.entries, entry{layer, slot, of(x)})
}

// Attend reads the cache.
func (d *Device) Attend(layer int, q graph.Buf, a attention.CacheRead) graph.Buf {
	v := d.need(of(q))
	if d.steps(layer, a, v) {
		o := d.take(d.t, d.n, a.H*a.Dv)
		k := d.stepAttend(layer, a, v, a.H, o)
		k.Q, k.QRow, k.QHead = v.buf, v.stride, v.width/a.H
		d.run(k)
		return give(o)
	}
	dense := d.take(d.t, d.n, v.width)
	d.place(d.queryPart(v, a.H, 0, dense.buf, v.width/a.H, dense.width))
	o := d.take(d.t, d.n, a.H*a.Dv)
	for _, s := range d.partsOf(layer) {
		if s.how == long {
			d.attendLong(layer, s, a, dense, o)
		} else {
			d.attendFew(layer, s, a, dense.rows(s.token, s.token+s.n), o.rows(s.token, s.token+s.n))
		}
	}
	return give(o)
}

// queryPart rotates queries on their way to a dense place. Columns before first are left out.
func (d *Device) queryPart(q *tensor, heads, first int, to device.Buffer, head, row int) kernels.DecodePart {
	p := kernels.DecodePart{
		X: q.buf, XRow: q.stride, XHead: q.width / heads, Y: to, YRow: row, YHead: head, Heads: heads, Dim: q.width / heads,
		First: first,
	}
	d.rotate(&p, q.rotation)
	return p
}

func (d *Device) rotate(p *kernels.DecodePart, t *rotation) {
	if t != nil {
		p.Rotate, p.Table = t.r, d.tables[tableKey{t.r, t.rotary}]
	}
}

// place writes queries, if there are any, and the waiting entries to where attention reads them.
func (d *Device) place(queries ...kernels.DecodePart) {
	k := kernels.DecodePlace{
		Parts: queries, Positions: d.meta.positions, Rows: d.meta.rows, Pages: d.waitingPages(), N: d.n,
		Page: decode.PageTokens, MaxPages: d.maxPages,
	}
	var small []kernels.DecodeEntry
	var eps float32
	pages := k.Pages
	for _, e := range d.entries {
		s, v := d.cache[e.layer][e.slot], e.v
		if r := v.rotation; r != nil { // parts of a slot may be more than its heads, as TPA's factors are
			s.heads, s.dim = r.heads, s.heads*s.dim/r.heads
		}
		p := kernels.DecodePart{Y: s.buf, YRow: s.heads * s.dim, YHead: s.dim, Heads: s.heads, Dim: s.dim, Cache: true}
		of := &k.Eps
		if s.fp8() {
			of = &eps
		}
		if n := v.norm; n != nil && !v.there() && v.rotation == nil && n.groups == s.heads &&
			(*of == 0 || *of == float32(n.eps)) {
			p.Norm, *of = d.weights.single[n.w.Name], float32(n.eps)
			v = n.x
		}
		d.need(v)
		p.X, p.XRow, p.XHead = v.buf, v.stride, s.dim
		d.rotate(&p, e.v.rotation)
		if s.fp8() {
			small = append(small, kernels.DecodeEntry{X: p.X, Y: s.buf, Scales: s.scales, Norm: p.Norm, Table: p.Table,
				XRow: p.XRow, XHead: p.XHead, Heads: p.Heads, Dim: p.Dim, Rotate: p.Rotate})
			continue
		}
		k.Parts = append(k.Parts, p)
	}
	for some := range slices.Chunk(small, kernels.FP8Entries) {
		d.run(&kernels.DecodePlaceFP8{Entries: some, Positions: k.Positions, Rows: k.Rows, Pages: pages, N: d.n,
			Page: decode.PageTokens, MaxPages: d.maxPages, Eps: eps})
	}
	d.entries = d.entries[:0]
	for parts := range slices.Chunk(k.Parts, kernels.PlaceParts) {
		some := k
		some.Parts = parts
		d.run(&some)
	}
}

// waitingPages is the page table of the entries that wait, which are of one layer.
func (d *Device) waitingPages() device.Buffer {
	if len(d.entries) == 0 {
		return d.pages
	}
	return d.pagesOf(d.entries[0].layer)
}

// pagesOf is the page table of a layer.
func (d *Device) pagesOf(layer int) device.Buffer {
	if d.ends(layer) {
		return d.tail
	}
	return d.pages
}

// ends says that a layer has its pages in the pool of layers with windows.
func (d *Device) ends(layer int) bool {
	return d.limits.Tail > 0 && d.model.LayerAttention(layer).Window > 0
}

// steps says that a batch of one new token each attends from the projections on, in one launch: where a kernel takes
// the dims, rotates the columns that are to be rotated, and reads and writes the entries that wait.
func (d *Device) steps(layer int, a attention.CacheRead, q *tensor) bool {
	s := d.partsOf(layer)[0]
	return d.step && s.how == few && s.t == 1 && s.b <= mostStepRows && d.shape(layer, a, s).StepAttends() &&
		d.dev.Compute == 90 &&
		q.rotation != nil && q.rotation.r%16 == 0 && q.width/a.H%8 == 0 && q.aligned() && d.stepEntries(layer, a, q)
}

// stepEntries says that the entries that wait are a key and a value of this layer, or a key and a rope key, and that
// the same columns are rotated as of queries. The kernel norms latents; other entries have been normed before it, which
// costs a launch each.
func (d *Device) stepEntries(layer int, a attention.CacheRead, q *tensor) bool {
	rotated, other := a.K, a.V
	if a.R > 0 {
		rotated, other = a.KRope, a.KRope
	}
	if len(d.entries) != 2 || d.entries[0].slot == d.entries[1].slot {
		return false
	}
	for _, e := range d.entries {
		v, r := e.v, e.v.rotation
		if e.layer != layer || e.slot != a.K && e.slot != other || (r != nil) != (e.slot == rotated) {
			return false
		}
		if r != nil && (r.r != q.rotation.r || r.rotary != q.rotation.rotary) {
			return false
		}
		if v.normsInStep(e.slot == a.K, a, d.cache[layer][a.K].heads) {
			v = v.norm.x
		}
		if !d.need(v).aligned() {
			return false
		}
	}
	return true
}

// normsInStep says that the kernel of steps does the norm of an entry: of latents, each apart.
func (v *tensor) normsInStep(key bool, a attention.CacheRead, heads int) bool {
	return v.norm != nil && !v.there() && key && a.Form() == attention.Latent && v.norm.groups == heads
}

// mostStepRows is how many requests attend faster by the kernel of small batches than by that of large ones.
const mostStepRows = 16

func (d *Device) shape(layer int, a attention.CacheRead, s segment) kernels.DecodeShape {
	return kernels.DecodeShape{FP8: d.cache[layer][a.K].fp8(), Cache: string(a.Form()), B: s.b,
		T: s.t, H: a.H, G: d.cache[layer][a.K].heads, P: a.P,
		R: a.R, Dv: a.Dv, Page: decode.PageTokens, MaxPages: d.maxPages}
}

// stepAttend is that launch, without the columns of queries that are not rotated.
func (d *Device) stepAttend(layer int, a attention.CacheRead, q *tensor, heads int, o *tensor) *kernels.StepAttend {
	E := q.width / heads
	k := &kernels.StepAttend{
		DecodeShape: d.shape(layer, a, d.partsOf(layer)[0]), Rotate: q.rotation.r, Scale: float32(a.Scale),
		Table:   d.tables[tableKey{q.rotation.r, q.rotation.rotary}],
		QRotate: q.buf.Slice(E-q.rotation.r, q.buf.N), QRotateRow: q.stride, QRotateHead: E, Pages: d.pages,
		Lengths: d.meta.lengths, O: o.buf,
	}
	for _, e := range d.entries {
		v, cache := e.v, d.cache[layer][e.slot].buf
		if v.normsInStep(e.slot == a.K, a, d.cache[layer][a.K].heads) {
			k.Norm, k.Eps = d.weights.single[v.norm.w.Name], float32(v.norm.eps)
			v = v.norm.x
		}
		d.need(v)
		switch {
		case e.slot == a.K:
			k.K, k.KRow, k.KCache = v.buf, v.stride, cache
		case a.R > 0:
			k.KRope, k.KRopeRow, k.RopeCache = v.buf, v.stride, cache
		default:
			k.V, k.VRow, k.VCache = v.buf, v.stride, cache
		}
	}
	d.entries = d.entries[:0]
	return k
}

// attendFew is attention of a segment's dense queries to the cache as it lies in its pages.
func (d *Device) attendFew(layer int, s segment, a attention.CacheRead, q, o device.Buffer) {
	c := d.cache[layer]
	k, v := c[a.K], c[a.V]
	var kRope, value device.Buffer
	if a.R > 0 {
		kRope = c[a.KRope].buf
	} else {
		value = v.buf
	}
	if s.how == few {
		d.run(&kernels.Decode{
			DecodeShape: d.shape(layer, a, s), Scale: float32(a.Scale), Q: q, K: k.buf, V: value, KRope: kRope, O: o, LSE: d.lse,
			KScale: k.scales, VScale: v.scales,
			Pages: d.pages.Slice(s.row*d.maxPages, d.pages.N), Lengths: d.meta.lengths.Slice(s.row, d.meta.lengths.N),
			Work: d.work,
		})
		return
	}
	if a.Rank > 0 {
		d.run(&kernels.DecodeFactors{
			N: s.n, H: a.H, R: a.Rank, D: a.P, Page: decode.PageTokens, MaxPages: d.maxPages, Window: a.Window,
			Scale: float32(a.Scale), Q: q, BK: k.buf, BV: v.buf, AK: c[a.KHeads].buf, AV: c[a.VHeads].buf, O: o,
			Positions: d.meta.positions.Slice(s.token, d.meta.positions.N), Rows: d.meta.rows.Slice(s.token, d.meta.rows.N),
			Pages: d.pagesOf(layer),
		})
		return
	}
	d.run(&kernels.DecodePlain{
		N: s.n, H: a.H, G: k.heads, P: a.P, R: a.R, Dv: a.Dv, KDim: k.dim, VDim: v.dim, Page: decode.PageTokens,
		MaxPages: d.maxPages, Scale: float32(a.Scale), Turn: a.Turn, Window: a.Window,
		Table: d.tables[tableKey{a.Turn, a.Rotary}],
		Q:     q, K: k.buf, V: v.buf, KRope: kRope, O: o, KScale: k.scales, VScale: v.scales,
		Positions: d.meta.positions.Slice(s.token, d.meta.positions.N), Rows: d.meta.rows.Slice(s.token, d.meta.rows.N),
		Pages: d.pagesOf(layer),
	})
}

// together are the tokens of a segment's requests in a slot, side by side: [B, S, heads·dim].
func (d *Device) together(layer, at int, s segment) device.Buffer {
	slot, S := d.cache[layer][at], s.start+s.t
	y := d.arena.take(d.t, s.b*S*slot.heads*slot.dim)
	if slot.fp8() {
		d.run(&kernels.DecodeGatherFP8{X: slot.buf, Scales: slot.scales, Y: y,
			Pages: d.pages.Slice(s.row*d.maxPages, d.pages.N), B: s.b, S: S, Heads: slot.heads, Dim: slot.dim,
			Page: decode.PageTokens, MaxPages: d.maxPages})
		return y
	}
	d.run(&kernels.DecodeGather{
		X: slot.buf, Y: y, Pages: d.pages.Slice(s.row*d.maxPages, d.pages.N), B: s.b, S: S, Width: slot.heads * slot.dim,
		Page: decode.PageTokens, MaxPages: d.maxPages,
	})
	return y
}

// attendLong is attention by the kernel of training.
func (d *Device) attendLong(layer int, s segment, a attention.CacheRead, q, o *tensor) {
	mark, c := d.arena.used, d.cache[layer]
	k := &kernels.Attention{H: a.H, G: c[a.K].heads, P: a.P, R: a.R, Dv: a.Dv, Scale: float32(a.Scale),
		KStride: c[a.K].dim, VStride: c[a.V].dim}
	k.K = d.together(layer, a.K, s)
	if k.V = k.K; a.V != a.K {
		k.V = d.together(layer, a.V, s)
	}
	if a.R > 0 {
		k.KRope = d.together(layer, a.KRope, s)
	}
	d.train(k, s, q, o)
	d.arena.used = mark
}

// train launches the kernel of training, which takes queries from a multiple of startTokens on. Where a request's begin
// later, rows of zeros stand before them, and what those give is thrown away.
func (d *Device) train(k *kernels.Attention, s segment, q, o *tensor) {
	before := s.start % startTokens
	k.B, k.T, k.Start = s.b, before+s.t, s.start-before
	k.Q, k.O = q.rows(s.token, s.token+s.n), o.rows(s.token, s.token+s.n)
	if before > 0 {
		k.Q, k.O = d.arena.take(d.t, k.T*q.width), d.arena.take(d.t, k.T*o.width)
		d.run(fill{k.Q.Slice(0, before*q.width), 0})
		d.run(copying{k.Q.Slice(before*q.width, k.Q.N), q.rows(s.token, s.token+s.n)})
	}
	k.LSE = d.arena.take(device.F32, k.B*k.T*k.H)
	d.run(k)
	if before > 0 {
		d.run(copying{o.rows(s.token, s.token+s.n), k.O.Slice(before*o.width, k.O.N)})
	}
}

// startTokens is what kernels.Attention wants a multiple of before its queries.
const startTokens = 64
