//go:build gpu

package cuda

import (
	"fmt"
	"slices"

	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/kernels"
)

type pendingProduct struct {
	x    *tensor
	pack *packed
	from int // the first of its columns in the pack
	out  int
}

// Linear waits for its reader, and for other products of x.
func (d *Device) Linear(x graph.Buf, w graph.Param, bias *graph.Param) graph.Buf {
	key := weight{w, bias}.product()
	p := d.weights.group[key]
	if p == nil {
		panic(fmt.Sprintf("decode: weight %s with bias %q was not packed: a pass must be the one that groups recorded",
			key.w, key.bias))
	}
	out := w.Shape[len(w.Shape)-1]
	if v := operand(x); p.n == 1 && v.width > p.in {
		return give(d.each(v, p, p.column[key], out))
	}
	v := &tensor{width: p.n * out, product: &pendingProduct{operand(x), p, p.column[key], out}}
	of(x).uses = append(of(x).uses, v)
	return give(v)
}

// each multiplies every part of x with the same weight.
func (d *Device) each(x *tensor, p *packed, from, out int) *tensor {
	parts := x.width / p.in
	y := d.take(d.t, d.n, parts*out)
	g := &kernels.Gemm{
		TransB: true, M: d.n * parts, N: out, K: p.in, A: d.need(x).dense(d.n), B: p.w.Slice(from*p.in, (from+out)*p.in),
		C: y.buf, Lda: p.in, Ldb: p.in, Ldc: out, Batch: 1,
	}
	if !p.bias.Nil() {
		g.Bias = p.bias.Slice(from, from+out)
	}
	d.run(g)
	return y
}

// Columns is x: the weights for its first columns have zeros for the others.
func (d *Device) Columns(x graph.Buf, _ int) graph.Buf { return x }

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
	stride := p.n * width
	if p.n == 1 && evenBefore(x.uses[:uses]) {
		stride = (width + 7) &^ 7
	}
	y := d.take(d.t, d.n, stride)
	switch {
	case small && p.n == 1:
		k := &kernels.StepProduct{Rows: d.n, In: p.in, Out: width, LdX: in.stride, LdY: stride, X: in.rows(0, d.n),
			Norm: norm, Eps: eps, W: p.w.Slice(from*p.in, p.w.N), Y: y.buf}
		if !p.bias.Nil() {
			k.Bias = p.bias.Slice(from, p.bias.N)
		}
		d.run(k)
	case small:
		d.run(&kernels.StepHeads{
			Rows: d.n, H: p.n, In: p.in, Out: width, LdX: in.stride, StepX: p.in, LdY: p.n * width, StepY: width,
			X: in.rows(0, d.n), W: p.w, Bias: p.bias, Y: y.buf,
		})
	default:
		g := d.product(p, x, from, width)
		g.C, g.Ldc, g.StrideC = y.buf, stride, width
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

// evenBefore says that of several products side by side only the last has a number of columns that is no multiple of 8,
// such as the gates of a few heads: rows of a stride that is one keep the others aligned.
func evenBefore(products []*tensor) bool {
	last := len(products) - 1
	return last > 0 && !slices.ContainsFunc(products[:last], func(v *tensor) bool { return v.width%8 != 0 })
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

// Add is x += y, the sum of all shards' y where there are several. A product without bias adds into x by itself.
func (d *Device) Add(x, y graph.Buf) {
	to, v := operand(x), operand(y)
	for len(to.uses) > 0 { // products of x as it was
		d.multiply(to)
	}
	if d.ranks > 1 || v.there() || v.product == nil || len(v.product.x.uses) > 1 || v.product.pack.n > 1 ||
		!v.product.pack.bias.Nil() {
		d.need(v)
		if v.stride != v.width {
			panic(fmt.Sprintf("decode: a sum with rows of %d, %d apart", v.width, v.stride))
		}
		d.addSum(to.buf, v.rows(0, d.n))
		return
	}
	p, from, in := v.product.pack, v.product.from, d.need(v.product.x)
	v.product.x.uses = nil
	if d.small(p.in) && in.aligned() {
		d.run(&kernels.StepProduct{
			Rows: d.n, In: p.in, Out: v.width, LdX: in.stride, LdY: to.stride, X: in.rows(0, d.n),
			W: p.w.Slice(from*p.in, p.w.N), Y: to.buf, Add: true,
		})
		return
	}
	g := d.product(p, in, from, v.width)
	g.C, g.Ldc, g.Accumulate = to.buf, to.stride, true
	d.run(g)
}

// Gate is o·sigmoid(g), in the place of o.
func (d *Device) Gate(o, g graph.Buf) graph.Buf {
	v, by := d.need(operand(o)), d.need(operand(g))
	if v.stride != v.width || v.width%by.width != 0 {
		panic(fmt.Sprintf("decode: %d columns, of rows %d apart, cannot be gated by %d", v.width, v.stride, by.width))
	}
	d.run(&kernels.DecodeOutputGate{G: by.rows(0, d.n), O: v.buf, Rows: d.n, Width: v.width, Per: v.width / by.width,
		Stride: by.stride})
	return o
}

// sideBySide says that two products wait that are all of their pack, which has no bias.
func sideBySide(gate, up *tensor) bool {
	if gate.there() || up.there() || gate.product == nil || up.product == nil {
		return false
	}
	g, u := gate.product, up.product
	return len(g.x.uses) == 2 && g.pack == u.pack && g.from == 0 && u.from == g.out && u.from+u.out == g.pack.out &&
		g.pack.n == 1 && g.pack.bias.Nil()
}

// SwiGLU is silu(gate)·up of two products side by side.
func (d *Device) SwiGLU(gate, up graph.Buf) graph.Buf {
	if v := operand(gate); sideBySide(v, operand(up)) {
		p := v.product.pack
		if in, norm, eps := d.normed(v.product.x); d.small(p.in) && in.aligned() && !norm.Nil() {
			y := d.take(d.t, d.n, v.width)
			d.run(&kernels.StepProduct{
				Rows: d.n, In: p.in, Out: v.width, LdX: in.stride, X: in.rows(0, d.n), Norm: norm, Eps: eps, W: p.w, Y: y.buf,
				Gate: true,
			})
			v.product.x.uses = nil
			return give(y)
		}
	}
	return d.gated(gate, up, false)
}

// gated is the gate of two products side by side, by a launch of its own.
func (d *Device) gated(gate, up graph.Buf, gelu bool) graph.Buf {
	g, u := d.need(of(gate)), d.need(of(up))
	if g.stride != 2*g.width || u.buf.Ptr != g.buf.Ptr+device.Ptr(g.width*g.buf.Type.Size()) {
		panic("decode: gate and up do not lie side by side")
	}
	y := d.take(d.t, d.n, g.width)
	both := device.Buffer{Ptr: g.buf.Ptr, N: d.n * g.stride, Type: g.buf.Type}
	d.run(&kernels.DecodeGate{X: both, Y: y.buf, Rows: d.n, F: g.width, GELU: gelu})
	return give(y)
}

// GeGLU is gelu(gate)·up of two products side by side.
func (d *Device) GeGLU(gate, up graph.Buf) graph.Buf { return d.gated(gate, up, true) }
