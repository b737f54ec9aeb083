//go:build gpu

package cuda

import (
	"fmt"

	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/kernels"
)

// A tensor stands behind a Buf of a CUDA device: rows in memory, or the operation that will make them. Operations wait
// until their result is needed, because most of them cost less inside of another's kernel: products of one tensor
// become one product, a sum goes into the product before it, and rotations and norms are done on the way to the cache.
type tensor struct {
	buf           device.Buffer // from the first element of the first row
	width, stride int           // of a row

	norm     *pendingNorm
	product  *pendingProduct
	rotation *rotation // to be done where the tensor goes
	uses     []*tensor // products of this tensor that wait
}

type pendingNorm struct {
	x      *tensor
	w      graph.Param
	groups int
	eps    float64
}

type pendingProduct struct {
	x    *tensor
	pack *packed
	from int // the first of its columns in the pack
	out  int
}

type rotation struct {
	heads, r int
	theta    float64
}

// Bytes makes a tensor a graph.Memory.
func (v *tensor) Bytes() int { return v.buf.Bytes() }

func (v *tensor) there() bool { return !v.buf.Nil() }

func of(b graph.Buf) *tensor { return b.Mem.(*tensor) }

// operand is the tensor of an operation that is not attention. Rotations are done on the way to attention, and would be
// missing.
func operand(b graph.Buf) *tensor {
	v := of(b)
	if v.rotation != nil {
		panic("decode: a rotated value can only be attended by or appended")
	}
	return v
}

// give hands out a tensor. Its Len of one says only that it is there: the device alone knows its shape.
func give(v *tensor) graph.Buf { return graph.Buf{Mem: v, Len: 1} }

// take makes room for n rows.
func (d *Device) take(t device.Type, n, width int) *tensor {
	return &tensor{buf: d.arena.take(t, n*width), width: width, stride: width}
}

// rows are those from lo to hi of a tensor.
func (v *tensor) rows(lo, hi int) device.Buffer {
	return v.buf.Slice(lo*v.stride, (hi-1)*v.stride+v.width)
}

// columns are width columns from the one at on, of n rows.
func (v *tensor) columns(n, at, width int) *tensor {
	return &tensor{buf: v.buf.Slice(at, (n-1)*v.stride+at+width), width: width, stride: v.stride}
}

// run launches a kernel, unless the device only counts memory or tunes its products.
func (d *Device) run(k launcher) {
	g, product := k.(*kernels.Gemm)
	switch {
	case d.mode == counting:
	case d.mode == tuning && product:
		d.queue.tune(g)
	case d.mode == tuning:
	default:
		d.queue.launch(k)
	}
}

// Embed looks the batch's tokens up.
func (d *Device) Embed(table graph.Param) graph.Buf {
	C := table.Shape[1]
	x := d.take(d.t, d.n, C)
	d.arena.keep()
	d.run(&kernels.DecodeEmbed{Given: d.meta.tokens, Drawn: d.drawn, Table: d.weights.single[table.Name], Y: x.buf, C: C})
	return give(x)
}

// Release writes the entries that no attention wrote, and frees all values but that of Embed.
func (d *Device) Release() {
	if len(d.entries) > 0 {
		d.place()
	}
	d.arena.release()
}

// RMSNorm waits for its reader.
func (d *Device) RMSNorm(x graph.Buf, w graph.Param, eps float64) graph.Buf {
	groups := 1
	if len(w.Shape) == 2 {
		groups = w.Shape[0]
	}
	return give(&tensor{width: of(x).width, norm: &pendingNorm{operand(x), w, groups, eps}})
}

// Linear waits for its reader, and for other products of x.
func (d *Device) Linear(x graph.Buf, w graph.Param, bias *graph.Param) graph.Buf {
	key := weight{w, bias}.product()
	p := d.weights.group[key]
	if p == nil {
		panic(fmt.Sprintf("decode: weight %s with bias %q was not packed: a pass must be the one that groups recorded", key.w, key.bias))
	}
	out := w.Shape[len(w.Shape)-1]
	v := &tensor{width: p.n * out, product: &pendingProduct{operand(x), p, p.column[key], out}}
	of(x).uses = append(of(x).uses, v)
	return give(v)
}

// need computes a tensor that is not in memory yet.
func (d *Device) need(v *tensor) *tensor {
	switch {
	case v.there():
	case v.norm != nil:
		x, n := d.need(v.norm.x), v.norm
		y := d.take(d.t, d.n, v.width)
		C := v.width / n.groups
		d.run(&kernels.DecodeNorm{
			X: x.rows(0, d.n), W: d.weights.single[n.w.Name], Y: y.buf, Rows: d.n, Groups: n.groups, C: C, Stride: x.stride, Eps: float32(n.eps),
		})
		v.buf, v.stride = y.buf, y.stride
	case v.product != nil:
		for x := v.product.x; !v.there(); {
			d.multiply(x)
		}
	default:
		panic("decode: a tensor that no operation makes")
	}
	return v
}

// multiply runs the first product of x that waits, and as one with it those after it that lie beside it.
func (d *Device) multiply(x *tensor) {
	p, from, width, uses := x.uses[0].product.pack, x.uses[0].product.from, 0, 0
	for _, v := range x.uses {
		if v.product.pack != p || v.product.from != from+width {
			break
		}
		width += v.product.out
		uses++
	}
	in, norm, eps := x, device.Buffer{}, float32(0)
	if d.small(p.in) && p.n == 1 {
		in, norm, eps = d.normed(x)
	} else {
		d.need(x)
	}
	small := d.small(p.in) && in.aligned()
	if !small {
		d.need(x)
	}
	y := d.take(d.t, d.n, p.n*width)
	switch {
	case small && p.n == 1:
		k := &kernels.StepProduct{Rows: d.n, In: p.in, Out: width, LdX: in.stride, X: in.rows(0, d.n), Norm: norm, Eps: eps, W: p.w.Slice(from*p.in, p.w.N), Y: y.buf}
		if !p.bias.Nil() {
			k.Bias = p.bias.Slice(from, p.bias.N)
		}
		d.run(k)
	case small:
		d.run(&kernels.StepHeads{
			Rows: d.n, H: p.n, In: p.in, Out: width, LdX: in.stride, StepX: p.in, LdY: p.n * width, StepY: width, X: in.rows(0, d.n), W: p.w, Bias: p.bias, Y: y.buf,
		})
	default:
		g := d.product(p, x, from, width)
		g.C, g.Ldc, g.StrideC = y.buf, p.n*width, width
		d.run(g)
	}
	at := 0
	for _, v := range x.uses[:uses] {
		part := y.columns(d.n, at, v.width)
		v.buf, v.stride = part.buf, part.stride
		at += v.width
	}
	x.uses = x.uses[uses:]
}

// small says that a product of so many columns runs by the kernels of steps, which norm, gate and add by themselves, if
// what it is of is aligned.
func (d *Device) small(in int) bool {
	return d.t == device.BF16 && d.n <= kernels.StepMaxRows && in%8 == 0
}

// aligned says that the kernels of steps can read a tensor, 16 bytes at a time.
func (v *tensor) aligned() bool { return v.stride%8 == 0 && v.buf.Ptr%16 == 0 }

// normed is a tensor before its norm, which the reader does by itself, and the norm's weight; or the tensor, and no
// weight.
func (d *Device) normed(x *tensor) (in *tensor, w device.Buffer, eps float32) {
	if x.there() || x.norm == nil || x.norm.groups > 1 {
		return d.need(x), device.Buffer{}, 0
	}
	return d.need(x.norm.x), d.weights.single[x.norm.w.Name], float32(x.norm.eps)
}

// product is x times the columns from to from+width of a group, without its output.
func (d *Device) product(p *packed, x *tensor, from, width int) *kernels.Gemm {
	g := &kernels.Gemm{
		TransB: true, M: d.n, N: width, K: p.in, A: x.rows(0, d.n), B: p.w.Slice(from*p.in, p.w.N), Lda: x.stride, Ldb: p.in,
		Batch: p.n, StrideA: p.in, StrideB: p.in * p.out,
	}
	if !p.bias.Nil() {
		g.Bias = p.bias.Slice(from, p.bias.N)
	}
	return g
}

// sum adds up what the shards of a model have.
func (d *Device) sum(b device.Buffer) {
	if d.ranks > 1 && d.mode == running {
		d.queue.sum(b)
	}
}

// agree gives all shards the tokens that the first drew: products may run otherwise on another GPU.
func (d *Device) agree() {
	if d.ranks < 2 || d.mode != running {
		return
	}
	tokens := d.drawn.Slice(0, d.n)
	if d.rank > 0 {
		d.run(fill{tokens, 0})
	}
	d.queue.sum(tokens)
}

// Add is x += y, the sum of all shards' y where there are several. A product without bias adds into x by itself.
func (d *Device) Add(x, y graph.Buf) {
	to, v := operand(x), operand(y)
	if d.ranks > 1 || v.there() || v.product == nil || len(v.product.x.uses) > 1 || v.product.pack.n > 1 || !v.product.pack.bias.Nil() {
		d.need(v)
		if v.stride != v.width {
			panic(fmt.Sprintf("decode: a sum with rows of %d, %d apart", v.width, v.stride))
		}
		d.sum(v.buf)
		d.run(&kernels.Add{X: to.buf, Y: v.buf, Out: to.buf})
		return
	}
	p, from, in := v.product.pack, v.product.from, d.need(v.product.x)
	v.product.x.uses = nil
	if d.small(p.in) && in.aligned() {
		d.run(&kernels.StepProduct{
			Rows: d.n, In: p.in, Out: v.width, LdX: in.stride, LdY: to.stride, X: in.rows(0, d.n), W: p.w.Slice(from*p.in, p.w.N), Y: to.buf, Add: true,
		})
		return
	}
	g := d.product(p, in, from, v.width)
	g.C, g.Ldc, g.Accumulate = to.buf, to.stride, true
	d.run(g)
}

// sideBySide says that two products wait that are all of their pack, which has no bias.
func sideBySide(gate, up *tensor) bool {
	if gate.there() || up.there() || gate.product == nil || up.product == nil {
		return false
	}
	g, u := gate.product, up.product
	return len(g.x.uses) == 2 && g.pack == u.pack && g.from == 0 && u.from == g.out && u.from+u.out == g.pack.out && g.pack.n == 1 && g.pack.bias.Nil()
}

// SwiGLU is silu(gate)·up of two products side by side.
func (d *Device) SwiGLU(gate, up graph.Buf) graph.Buf {
	if v := operand(gate); sideBySide(v, operand(up)) {
		p := v.product.pack
		if in, norm, eps := d.normed(v.product.x); d.small(p.in) && in.aligned() && !norm.Nil() {
			y := d.take(d.t, d.n, v.width)
			d.run(&kernels.StepProduct{
				Rows: d.n, In: p.in, Out: v.width, LdX: in.stride, X: in.rows(0, d.n), Norm: norm, Eps: eps, W: p.w, Y: y.buf, Gate: true,
			})
			v.product.x.uses = nil
			return give(y)
		}
	}
	g, u := d.need(of(gate)), d.need(of(up))
	if g.stride != 2*g.width || u.buf.Ptr != g.buf.Ptr+device.Ptr(g.width*g.buf.Type.Size()) {
		panic("decode: gate and up do not lie side by side")
	}
	y := d.take(d.t, d.n, g.width)
	both := device.Buffer{Ptr: g.buf.Ptr, N: d.n * g.stride, Type: g.buf.Type}
	d.run(&kernels.DecodeGate{X: both, Y: y.buf, Rows: d.n, F: g.width})
	return give(y)
}

// Select gathers the rows that the batch scores, which are the rows of all values from here on.
func (d *Device) Select(x graph.Buf) graph.Buf {
	v := of(x)
	if d.step {
		return x
	}
	y := d.take(d.t, d.scores, v.width)
	d.run(&kernels.Embed{Tokens: d.meta.score, Table: v.buf, Y: y.buf, C: v.width})
	d.n = d.scores
	return give(y)
}

// Logits are in float32, and a token is drawn from each row.
func (d *Device) Logits(x graph.Buf, w graph.Param) graph.Buf {
	V, C := w.Shape[0], w.Shape[1]
	y := d.take(device.F32, d.n, V)
	in, norm, eps := d.normed(of(x))
	fused := d.small(C) && in.aligned() && !norm.Nil()
	best := device.Buffer{}
	if fused {
		best = d.take(device.F64, d.n, kernels.StepBests).buf
		d.run(&kernels.StepLogits{Rows: d.n, C: C, V: V, LdX: in.stride, X: in.rows(0, d.n), Norm: norm, W: d.weights.single[w.Name], Logits: y.buf, Best: best, Eps: eps})
	} else {
		in = d.need(of(x))
		d.run(&kernels.Gemm{
			TransB: true, M: d.n, N: V, K: C, A: in.rows(0, d.n), B: d.weights.single[w.Name], C: y.buf, Lda: in.stride, Ldb: C, Ldc: V, Batch: 1,
		})
	}
	switch {
	case d.sampled:
		d.run(&kernels.StepSample{Rows: d.n, V: V, Logits: y.buf, Choices: d.meta.choices, Seen: d.meta.seen, Tokens: d.drawn})
	case fused:
		d.run(&kernels.StepPick{Rows: d.n, C: C, V: V, Best: best, Tokens: d.drawn})
	default:
		d.run(&kernels.DecodeLargest{Logits: y.buf, Tokens: d.drawn, Rows: d.n, V: V})
	}
	d.agree()
	return give(y)
}
