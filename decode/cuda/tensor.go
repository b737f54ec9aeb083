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

type rotation struct {
	heads, r int
	rotary   graph.Rotary
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

// give makes a Buf of a tensor. Its Len of one says only that it exists: the device alone knows its shape.
func give(v *tensor) graph.Buf { return graph.Buf{Mem: v, Len: 1} }

// take allocates n rows.
func (d *Device) take(t device.Type, n, width int) *tensor {
	return &tensor{buf: d.arena.take(t, n*width), width: width, stride: width}
}

// rows are those from lo to hi of a tensor.
func (v *tensor) rows(lo, hi int) device.Buffer {
	return v.buf.Slice(lo*v.stride, (hi-1)*v.stride+v.width)
}

// dense are n rows that lie side by side.
func (v *tensor) dense(n int) device.Buffer {
	if v.stride != v.width {
		panic(fmt.Sprintf("decode: rows of %d, %d apart, are wanted side by side", v.width, v.stride))
	}
	return v.rows(0, n)
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
	d.run(&kernels.DecodeEmbed{Given: d.meta.tokens, Drawn: d.drawn, Table: d.weights.single[table.Name], Y: x.buf, C: C,
		First: d.model.First})
	if d.divided() {
		d.sum(x.buf)
	}
	return give(x)
}

// Scale multiplies what Embed gave.
func (d *Device) Scale(x graph.Buf, by float64) {
	v := operand(x)
	rows := v.rows(0, d.n)
	d.run(&kernels.Repeat{X: rows, Y: rows, Rows: d.n, Times: 1, Inner: v.width, Scale: float32(by)})
}

// Release writes the entries that no attention wrote, and frees all values but that of Embed.
func (d *Device) Release() {
	if len(d.entries) > 0 {
		d.place()
	}
	d.arena.release()
}

// RMSNorm waits for its reader. It norms each group of columns apart, by weights of its own or the one of all.
func (d *Device) RMSNorm(x graph.Buf, w graph.Param, eps float64) graph.Buf {
	v := operand(x)
	return give(&tensor{width: v.width, norm: &pendingNorm{v, w, v.width / w.Shape[len(w.Shape)-1], eps}})
}

// Expand is scale·A·B of each row.
func (d *Device) Expand(a, b graph.Buf, heads, dim int, scale float64) graph.Buf {
	x, z, y := d.need(operand(a)), d.need(operand(b)), d.take(d.t, d.n, heads*dim)
	d.run(&kernels.Expand{A: x.rows(0, d.n), B: z.rows(0, d.n), Y: y.buf, Rows: d.n, H: heads, R: x.width / heads, D: dim,
		LdA: x.stride, LdB: z.stride, Scale: float32(scale)})
	return give(y)
}

// AddScaled is x + w·z.
func (d *Device) AddScaled(x, z graph.Buf, w graph.Param) graph.Buf {
	to, v, C := d.need(operand(x)), d.need(operand(z)), w.Shape[0]
	y := d.take(d.t, d.n, to.width)
	d.run(&kernels.AddScaled{X: to.dense(d.n), Z: v.dense(d.n), A: d.weights.single[w.Name], Y: y.buf,
		Rows: d.n * to.width / C, C: C})
	return give(y)
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
			X: x.rows(0, d.n), W: d.weights.single[n.w.Name], Y: y.buf, Rows: d.n, Groups: n.groups, C: C, Stride: x.stride,
			Eps: float32(n.eps),
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
	V, C, all := w.Shape[0], w.Shape[1], d.model.Vocab()
	y := d.take(device.F32, d.n, all)
	own := y.columns(d.n, d.model.First, V).buf
	if d.gathers {
		d.run(fill{y.buf, 0})
	}
	in, norm, eps := d.normed(of(x))
	fused := d.small(C) && in.aligned() && !norm.Nil()
	best := device.Buffer{}
	if fused {
		best = d.take(device.F64, d.n, kernels.StepBests).buf
		d.run(&kernels.StepLogits{Rows: d.n, C: C, V: V, LdX: in.stride, LdY: all, X: in.rows(0, d.n), Norm: norm,
			W: d.weights.single[w.Name], Logits: own, Best: best, Eps: eps})
	} else {
		in = d.need(of(x))
		d.run(&kernels.Gemm{
			TransB: true, M: d.n, N: V, K: C, A: in.rows(0, d.n), B: d.weights.single[w.Name], C: own, Lda: in.stride, Ldb: C,
			Ldc: all, Batch: 1,
		})
	}
	if d.gathers {
		d.sum(y.buf)
	}
	switch {
	case d.divided() && !d.gathers:
		d.largest(&kernels.AllLargest{Rows: d.n, C: C, N: V, Ld: all, First: d.model.First, Best: best, Logits: own,
			Tokens: d.drawn})
		return give(y)
	case d.sampled:
		d.run(&kernels.StepSample{Rows: d.n, V: all, Logits: y.buf, Choices: d.meta.choices,
			Seen: d.meta.seen, Tokens: d.drawn})
	case fused && !d.gathers:
		d.run(&kernels.StepPick{Rows: d.n, C: C, V: V, Best: best, Tokens: d.drawn})
	default:
		d.run(&kernels.DecodeLargest{Logits: y.buf, Tokens: d.drawn, Rows: d.n, V: all})
	}
	d.agree()
	return give(y)
}
