//go:build gpu

package cuda

import (
	"math/rand/v2"
	"testing"

	"headroom/decode/decodetest"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/kernels/ref"
)

// TestCUDALinearTakesTheBiasItIsGiven multiplies one value by a weight with either of two biases, and with none, by
// another weight, and by one in parts: each product gets the bias of its own call, whatever else became one product
// with it.
func TestCUDALinearTakesTheBiasItIsGiven(t *testing.T) {
	const rows, in, out = 3, 8, 16
	r := rand.New(rand.NewPCG(5, 1))
	w := &weights{of: map[string][]float32{}, group: map[product]*packed{}, single: map[string]device.Buffer{}}
	param := func(name string, shape ...int) graph.Param {
		p := graph.Param{Name: name, Shape: shape}
		w.of[name] = make([]float32, p.Size())
		for i := range w.of[name] {
			w.of[name][i] = float32(r.NormFloat64())
		}
		return p
	}
	a, b, parts := param("a", in, out), param("b", in, out), param("parts", 2, in/2, out)
	bias, other, both := param("bias", out), param("other", out), param("both", 2, out)
	calls := []weight{{a, &bias}, {b, nil}, {a, nil}, {parts, &both}, {a, &other}, {b, &bias}}
	g := &groups{at: map[int]int{}}
	for _, c := range calls {
		g.Linear(graph.Buf{Off: 1}, c.w, c.bias)
	}
	for _, typ := range []device.Type{device.F32, device.BF16} {
		on := simulate(typ)
		q, err := on.queue(false)
		if err != nil {
			t.Fatal(err)
		}
		w.queue, w.t = q, typ
		if err := w.load([]graph.Param{a, b, parts, bias, other, both}, g); err != nil {
			t.Fatal(err)
		}
		d := &Device{dev: on.dev, queue: q, weights: w, t: typ, n: rows}
		if d.arena.all, err = q.alloc(device.U8, 1<<16); err != nil {
			t.Fatal(err)
		}
		x := param("x", rows, in)
		from := d.take(typ, rows, in)
		q.uploadFloats(from.buf, w.of["x"])
		var got []*tensor
		for _, c := range calls {
			got = append(got, of(d.Linear(give(from), c.w, c.bias)))
		}
		for i, c := range calls {
			n := x.Size() / (rows * c.w.Shape[len(c.w.Shape)-2])
			want := ref.Gemm{
				M: rows, N: out, K: in / n, A: w.of["x"], B: w.of[c.w.Name], C: make([]float32, rows*n*out), Lda: in, Ldb: out,
				Ldc:   n * out,
				Batch: n, StrideA: in / n, StrideB: in / n * out, StrideC: out,
			}
			if c.bias != nil {
				want.Bias = w.of[c.bias.Name]
			}
			want.Run()
			v := d.need(got[i])
			y := make([]float32, rows*n*out)
			for row := range rows {
				q.downloadFloats(y[row*n*out:(row+1)*n*out], v.rows(row, row+1))
			}
			decodetest.Near(t, c.w.Name, y, want.C)
		}
		if err := q.close(); err != nil {
			t.Error(err)
		}
	}
}
