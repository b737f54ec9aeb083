//go:build gpu

package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"headroom/internal/device"
	"headroom/kernels/ref"
)

// stepShapes are the products of the models, and awkward ones: In that ends within a unit, that needs two turns of the
// registers, Out that ends within a tile.
var stepShapes = []struct{ in, out int }{{768, 1280}, {1536, 96}, {4096, 48}, {64, 16}, {8, 3}, {200, 37}, {6640, 40},
	{2048, 100}, {4608, 24}}

func TestStepProduct(t *testing.T) {
	for _, d := range stepShapes {
		for _, rows := range []int{1, 2, 7, 8, 9, 16} {
			for _, form := range []string{"plain", "bias", "norm", "add", "gate"} {
				t.Run(fmt.Sprint(d, rows, form), func(t *testing.T) { checkStep(t, rows, d.in, d.out, form) })
			}
		}
	}
}

func checkStep(t *testing.T, rows, in, out int, form string) {
	r, rng := newRig(t), rand.New(rand.NewPCG(20, uint64(in+rows)))
	ldx, ldy, of := in+8, out+5, out
	if form == "gate" {
		of = 2 * out
	}
	x, w, norm, bias, y := normal(rng, rows*ldx), normal(rng, of*in), normal(rng, in), normal(rng, out),
		normal(rng, rows*ldy)
	for i := range w {
		w[i] /= float32(math.Sqrt(float64(in)))
	}
	k := StepProduct{Rows: rows, In: in, Out: out, LdX: ldx, LdY: ldy, X: r.in(device.BF16, x), W: r.in(device.BF16, w),
		Y: r.out(device.BF16, rows*ldy), Eps: 1e-5, Add: form == "add", Gate: form == "gate"}
	p := ref.StepProduct{Rows: rows, In: in, Out: out, LdX: ldx, LdY: ldy, X: x, W: w, Y: y, Eps: 1e-5,
		Add: k.Add, Gate: k.Gate}
	if form == "norm" || form == "gate" {
		k.Norm, p.Norm, p.Round = r.in(device.BF16, norm), norm, toBF16
	}
	if form == "bias" || form == "add" {
		k.Bias, p.Bias = r.in(device.BF16, bias), bias
	}
	r.upload(k.Y, y) // rounds
	start := append([]float32(nil), y...)
	p.Run()
	r.check(k.Launch, result{"y", k.Y, y, start, 0})

	// a row alone has the bits that it has among others
	all := r.read(k.Y)
	r.upload(k.Y, start)
	alone := k
	alone.Rows, alone.X, alone.Y = 1, k.X.Slice((rows-1)*ldx, k.X.N), k.Y.Slice((rows-1)*ldy, k.Y.N)
	if alone.X.Ptr%16 != 0 {
		t.Fatal("rows of X are not aligned")
	}
	alone.Launch(r.s)
	for i, got := range r.read(alone.Y) {
		if want := all[(rows-1)*ldy+i]; got != want {
			t.Fatalf("element %d of the last row: %v alone, %v among %d", i, got, want, rows)
		}
	}
}

func TestStepHeads(t *testing.T) {
	for _, d := range []struct{ h, in, out, copied int }{{24, 64, 128, 32}, {24, 128, 64, 0},
		{3, 256, 40, 8}, {5, 24, 8, 8}} {
		for _, rows := range []int{1, 5, 16} {
			t.Run(fmt.Sprint(d, rows), func(t *testing.T) {
				r, rng := newRig(t), rand.New(rand.NewPCG(21, uint64(rows)))
				stepX, stepY := d.in+d.copied, d.out+d.copied
				x, w, bias, y := normal(rng, rows*d.h*stepX), normal(rng, d.h*d.out*d.in), normal(rng, d.h*d.out),
					make([]float32, rows*d.h*stepY)
				k := StepHeads{Rows: rows, H: d.h, In: d.in, Out: d.out, Copy: d.copied, LdX: d.h * stepX, StepX: stepX,
					LdY: d.h * stepY, StepY: stepY,
					X: r.in(device.BF16, x), W: r.in(device.BF16, w), Bias: r.in(device.BF16, bias), Y: r.out(device.BF16, len(y))}
				(&ref.StepHeads{Rows: rows, H: d.h, In: d.in, Out: d.out, Copy: d.copied, LdX: k.LdX, StepX: stepX, LdY: k.LdY,
					StepY: stepY, X: x, W: w, Bias: bias, Y: y}).Run()
				r.check(k.Launch, result{"y", k.Y, y, nil, 0})
			})
		}
	}
}

func TestStepLogits(t *testing.T) {
	for _, d := range []struct{ c, v int }{{768, 50257}, {1536, 5000}, {64, 5}, {2048, 257}} {
		for _, rows := range []int{1, 8, 9, 16} {
			t.Run(fmt.Sprint(d, rows), func(t *testing.T) { checkLogits(t, rows, d.c, d.v) })
		}
	}
}

func checkLogits(t *testing.T, rows, c, v int) {
	r, rng := newRig(t), rand.New(rand.NewPCG(22, uint64(rows)))
	x, w, norm, logits := normal(rng, rows*c), normal(rng, v*c), normal(rng, c), make([]float32, rows*v)
	copy(w[(v-1)*c:], w[v/2*c:][:c]) // equal logits
	copy(x, w[v/2*c:][:c])
	for i := range norm {
		norm[i] = 1 + norm[i]/8
	}
	k := StepLogits{Rows: rows, C: c, V: v, X: r.in(device.BF16, x), Norm: r.in(device.BF16, norm),
		W:      r.in(device.BF16, w),
		Logits: r.out(device.F32, rows*v), Best: r.out(device.F64, rows*StepBests), Eps: 1e-5}
	(&ref.StepProduct{Rows: rows, In: c, Out: v, X: x, Norm: norm, W: w, Y: logits, Eps: 1e-5, Round: toBF16}).Run()
	k.Launch(r.s)
	got := r.read(k.Logits)
	if err := near(device.BF16, got, logits, 0); err != nil {
		t.Error(err)
	}
	p := StepPick{Rows: rows, C: c, V: v, Best: k.Best, Tokens: r.out(device.I32, rows), Table: k.W,
		X: r.out(device.BF16, rows*c)}
	want, tokens := make([]int32, rows), make([]int32, rows)
	(&ref.StepPick{Rows: rows, V: v, Logits: got, Tokens: want}).Run()
	for _, out := range []device.Buffer{k.Logits, {}} { // without logits, the same tokens
		k.Logits = out
		r.s.Fill(p.Tokens, 0xff)
		k.Launch(r.s)
		p.Launch(r.s)
		device.Download(r.s, tokens, p.Tokens)
		embedded := r.read(p.X)
		for i, token := range want {
			if tokens[i] != token {
				t.Fatalf("row %d: token %d, want %d", i, tokens[i], token)
			}
			for j := range c {
				if embedded[i*c+j] != w[int(token)*c+j] {
					t.Fatalf("row %d: element %d of its embedding is %v, want %v", i, j, embedded[i*c+j], w[int(token)*c+j])
				}
			}
		}
	}
}

func TestStepRefuses(t *testing.T) {
	r := newRig(t)
	x, w, y := r.out(device.BF16, 17*64), r.out(device.BF16, 64*64), r.out(device.BF16, 17*64)
	for _, c := range []struct {
		k    StepProduct
		want string
	}{
		{StepProduct{Rows: 17, In: 64, Out: 64, X: x, W: w, Y: y}, "up to 16 rows are supported, they are 17"},
		{StepProduct{Rows: 1, In: 60, Out: 64, X: x, W: w, Y: y}, "multiples of 8, one is 60"},
		{StepProduct{Rows: 1, In: 64, Out: 64, X: x.Slice(1, x.N), W: w, Y: y}, "X must begin on 16 bytes"},
		{StepProduct{Rows: 1, In: 64, Out: 65, X: x, W: w, Y: y}, "W must be 4160 of bf16"},
		{StepProduct{Rows: 1, In: 64, Out: 64, X: x, W: w, Y: y, Gate: true}, "a gate has a norm"},
		{StepProduct{Rows: 1, In: 64, Out: 64, X: x, W: w, Y: y, Norm: x, Add: true}, "what is added has no norm"},
	} {
		c.k.Launch(r.s)
		if err := r.s.Sync(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.k, err, c.want)
		}
	}
}
