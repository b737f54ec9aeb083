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

func TestElementwise(t *testing.T) {
	for _, typ := range types {
		for _, n := range append([]int{100_003}, sizes...) {
			t.Run(fmt.Sprint(typ, n), func(t *testing.T) {
				r, rng := newRig(t), rand.New(rand.NewPCG(1, uint64(n)))
				x, y, dy := normal(rng, n), normal(rng, n), normal(rng, n)
				bx, by, bdy := r.in(typ, x), r.in(typ, y), r.in(typ, dy)
				out, dgate, dup := make([]float32, n), make([]float32, n), make([]float32, n)

				(&ref.Add{X: x, Y: y, Out: out}).Run()
				add := Add{bx, by, r.out(typ, n)}
				r.check(add.Launch, result{"add", add.Out, out, nil, 0})

				gated := make([]float32, n)
				(&ref.SwiGLU{Gate: x, Up: y, Y: gated}).Run()
				swiglu := SwiGLU{bx, by, r.out(typ, n)}
				r.check(swiglu.Launch, result{"swiglu", swiglu.Y, gated, nil, 0})

				(&ref.SwiGLUGrad{Gate: x, Up: y, DY: dy, DGate: dgate, DUp: dup}).Run()
				grad := SwiGLUGrad{bx, by, bdy, r.out(typ, n), r.out(typ, n)}
				r.check(grad.Launch, result{"dgate", grad.DGate, dgate, nil, 0}, result{"dup", grad.DUp, dup, nil, 0})

				(&ref.GeGLU{Gate: x, Up: y, Y: gated}).Run()
				geglu := GeGLU{bx, by, r.out(typ, n)}
				r.check(geglu.Launch, result{"geglu", geglu.Y, gated, nil, 0})

				(&ref.GeGLUGrad{Gate: x, Up: y, DY: dy, DGate: dgate, DUp: dup}).Run()
				gelu := GeGLUGrad{bx, by, bdy, r.out(typ, n), r.out(typ, n)}
				r.check(gelu.Launch, result{"dgate of geglu", gelu.DGate, dgate, nil, 0},
					result{"dup of geglu", gelu.DUp, dup, nil, 0})
			})
		}
	}
}

func TestCast(t *testing.T) {
	for _, n := range append([]int{100_003}, sizes...) {
		r, rng := newRig(t), rand.New(rand.NewPCG(2, uint64(n)))
		x := normal(rng, n)
		cast := Cast{r.in(device.F32, x), r.out(device.BF16, n)}
		cast.Launch(r.s)
		for i, got := range r.read(cast.Y) {
			if want := device.FromBF16(device.ToBF16(x[i])); got != want {
				t.Fatalf("n %d: element %d is %v, want %v", n, i, got, want)
			}
		}
	}
}

func TestRope(t *testing.T) {
	for _, typ := range types {
		for _, d := range []struct{ B, T, H, D, R int }{{1, 1, 1, 2, 2}, {2, 3, 5, 64, 64}, {1, 65, 3, 96, 32},
			{2, 7, 3, 63, 30}, {1, 9, 1, 32, 32}, {3, 5, 2, 128, 64}} {
			for _, inverse := range []bool{false, true} {
				t.Run(fmt.Sprint(typ, d, inverse), func(t *testing.T) {
					r, rng := newRig(t), rand.New(rand.NewPCG(3, uint64(d.D)))
					n := d.B * d.T * d.H * d.D
					x, y := normal(rng, n), make([]float32, n)
					rotary := ref.Rotary{Theta: 10000, Factor: 8, Low: 1, High: 4, Context: d.T}
					table := r.in(device.F32, RopeTable(d.T, d.R, rotary))
					k := Rope{X: r.in(typ, x), Y: r.out(typ, n), Table: table, B: d.B, T: d.T, Heads: d.H, D: d.D, R: d.R,
						Inverse: inverse}
					(&ref.Rope{X: x, Y: y, B: d.B, T: d.T, Heads: d.H, D: d.D, R: d.R, Rotary: rotary, Inverse: inverse}).Run()
					r.check(k.Launch, result{"y", k.Y, y, nil, 0})
					k.X = k.Y
					r.check(k.Launch, result{"in place", k.Y, y, x, 0})
				})
			}
		}
	}
}

func TestRMSNorm(t *testing.T) {
	widths := append([]int{512, 768, 1024, 1536, 2048, 1000}, sizes...)
	for _, typ := range types {
		for _, c := range widths {
			for _, d := range []struct{ rows, groups int }{{1, 1}, {65, 1}, {37, 2}, {3, 4}} {
				t.Run(fmt.Sprint(typ, c, d), func(t *testing.T) { checkNorm(t, typ, d.rows, d.groups, c) })
			}
		}
	}
}

func checkNorm(t *testing.T, typ device.Type, rows, groups, c int) {
	r, rng := newRig(t), rand.New(rand.NewPCG(4, uint64(c)))
	n := rows * groups * c
	x, w, add, y, rstd := normal(rng, n), normal(rng, groups*c), normal(rng, n), make([]float32, n),
		make([]float32, rows*groups)
	k := RMSNorm{X: r.in(typ, x), W: r.in(typ, w), Y: r.out(typ, n), Rstd: r.out(device.F32, rows*groups), Rows: rows,
		Groups: groups, C: c, Eps: 1e-5}
	(&ref.RMSNorm{X: x, W: w, Y: y, Rstd: rstd, Rows: rows, Groups: groups, C: c, Eps: 1e-5}).Run()
	r.check(k.Launch, result{"y", k.Y, y, nil, 0}, result{"rstd", k.Rstd, rstd, nil, 0})

	dy, dx, dw := normal(rng, n), make([]float32, n), make([]float32, groups*c)
	g := RMSNormGrad{X: k.X, W: k.W, Rstd: k.Rstd, DY: r.in(typ, dy), DX: r.out(typ, n), DW: r.out(device.F32, groups*c),
		Rows: rows, Groups: groups, C: c}
	rg := ref.RMSNormGrad{X: x, W: w, Rstd: rstd, DY: dy, DX: dx, DW: dw, Rows: rows, Groups: groups, C: c}
	rg.Run()
	r.check(g.Launch, result{"dx", g.DX, dx, nil, norm(dy, w, rstd)}, result{"dw", g.DW, dw, nil, 0})

	startX, startW := normal(rng, n), normal(rng, groups*c)
	r.upload(r.out(typ, n), startX) // rounds
	copy(dx, startX)
	copy(dw, startW)
	g.AccumulateDX, g.AccumulateDW, rg.AccumulateDX, rg.AccumulateDW = true, true, true, true
	rg.Run()
	r.check(g.Launch, result{"dx accumulated", g.DX, dx, startX, norm(dy, w, rstd)},
		result{"dw accumulated", g.DW, dw, startW, 0})

	k.Add, k.Sum = r.in(typ, add), r.out(typ, n)
	sum := make([]float32, n)
	for i := range sum {
		sum[i] = x[i] + add[i]
	}
	rounded := append([]float32(nil), sum...)
	r.upload(r.out(typ, n), rounded)
	(&ref.RMSNorm{X: rounded, W: w, Y: y, Rstd: rstd, Rows: rows, Groups: groups, C: c, Eps: 1e-5}).Run()
	r.check(k.Launch, result{"sum", k.Sum, sum, nil, 0}, result{"y of sum", k.Y, y, nil, 0},
		result{"rstd of sum", k.Rstd, rstd, nil, 0})
}

// norm is ‖dy·w·rstd‖, of which dx is a difference: at C 1 nearly all of it cancels.
func norm(dy, w, rstd []float32) float64 {
	var sum float64
	for i := range dy {
		x := float64(dy[i]) * float64(w[i%len(w)]) * float64(rstd[i*len(rstd)/len(dy)])
		sum += x * x
	}
	return math.Sqrt(sum)
}

func TestColSum(t *testing.T) {
	for _, typ := range types {
		for _, n := range append([]int{300, 1024}, sizes...) {
			for _, rows := range []int{1, 8, 65, 1000} {
				t.Run(fmt.Sprint(typ, rows, n), func(t *testing.T) {
					r, rng := newRig(t), rand.New(rand.NewPCG(5, uint64(n)))
					x, y, start := normal(rng, rows*n), make([]float32, n), normal(rng, n)
					k := ColSum{X: r.in(typ, x), Y: r.out(device.F32, n), Rows: rows, N: n}
					(&ref.ColSum{X: x, Y: y, Rows: rows, N: n}).Run()
					r.check(k.Launch, result{"y", k.Y, y, nil, 0})
					k.Accumulate = true
					copy(y, start)
					(&ref.ColSum{X: x, Y: y, Rows: rows, N: n, Accumulate: true}).Run()
					r.check(k.Launch, result{"y accumulated", k.Y, y, start, 0})
				})
			}
		}
	}
}

func TestEmbed(t *testing.T) {
	shapes := []struct{ n, c, v int }{{1, 1, 1}, {3, 63, 5}, {64, 64, 1}, {65, 65, 2}, {1000, 127, 3}, {4099, 768, 50257},
		{3000, 24, 128256}, {33, 8, 64}, {2048, 1032, 300}}
	for _, typ := range types {
		for _, d := range shapes {
			t.Run(fmt.Sprint(typ, d), func(t *testing.T) {
				r, rng := newRig(t), rand.New(rand.NewPCG(6, uint64(d.n)))
				tokens := make([]int32, d.n)
				for i := range tokens { // half of them the same few, as in text
					if tokens[i] = int32(rng.IntN(d.v)); i%2 == 0 {
						tokens[i] = int32(rng.IntN(min(d.v, 2)))
					}
				}
				table, y := normal(rng, d.v*d.c), make([]float32, d.n*d.c)
				k := Embed{Tokens: r.tokens(tokens), Table: r.in(typ, table), Y: r.out(typ, d.n*d.c), C: d.c}
				(&ref.Embed{Tokens: tokens, Table: table, Y: y, C: d.c}).Run()
				r.check(k.Launch, result{"y", k.Y, y, nil, 0})

				dy, dtable := normal(rng, d.n*d.c), make([]float32, d.v*d.c)
				g := EmbedGrad{Tokens: k.Tokens, DY: r.in(typ, dy), DTable: r.out(device.F32, d.v*d.c), C: d.c}
				(&ref.EmbedGrad{Tokens: tokens, DY: dy, DTable: dtable, C: d.c}).Run()
				r.check(g.Launch, result{"dtable", g.DTable, dtable, nil, 0})
				g.Accumulate = true
				start := append([]float32(nil), table...)
				copy(dtable, start)
				(&ref.EmbedGrad{Tokens: tokens, DY: dy, DTable: dtable, C: d.c, Accumulate: true}).Run()
				r.check(g.Launch, result{"dtable accumulated", g.DTable, dtable, start, 0})
			})
		}
	}
}

func TestEmbedOutside(t *testing.T) {
	r := newRig(t)
	tokens := []int32{-1, 2, 3, 1 << 30, 2, -1 << 31}
	k := Embed{Tokens: r.tokens(tokens), Table: r.in(device.F32, []float32{1, 2, 3}), Y: r.out(device.F32, 6), C: 1}
	r.check(k.Launch, result{"y", k.Y, []float32{0, 3, 0, 0, 3, 0}, nil, 0})
	g := EmbedGrad{Tokens: k.Tokens, DY: r.in(device.F32, []float32{1, 10, 100, 1000, 10000, 1e5}),
		DTable: r.out(device.F32, 3), C: 1}
	r.check(g.Launch, result{"dtable", g.DTable, []float32{0, 0, 10010}, nil, 0})
}

func TestClassifier(t *testing.T) {
	shapes := []struct{ n, c, v, chunk int }{{1, 8, 1, 0}, {3, 16, 63, 2}, {64, 64, 64, 0}, {65, 24, 65, 64},
		{127, 64, 1000, 0}, {200, 64, 50257, 64}, {16, 32, 128256, 0}}
	for _, typ := range types {
		for _, d := range shapes {
			for _, z := range []float32{0, 0.01} {
				t.Run(fmt.Sprint(typ, d, z), func(t *testing.T) {
					r, rng := newRig(t), rand.New(rand.NewPCG(7, uint64(d.v)))
					x, w, targets := normal(rng, d.n*d.c), normal(rng, d.v*d.c), make([]int32, d.n)
					for i := range w {
						w[i] *= 0.3
					}
					for i := range targets {
						if targets[i] = int32(rng.IntN(d.v)); i%5 == 3 {
							targets[i] = -1
						}
					}
					k := Classifier{
						X: r.in(typ, x), W: r.in(typ, w), Targets: r.tokens(targets), NLL: r.out(device.F32, d.n),
						Loss: r.out(device.F32, 1),
						N:    d.n, C: d.c, V: d.v, ZLoss: z, Chunk: d.chunk,
					}
					c := ref.Classifier{X: x, W: w, Targets: targets, NLL: make([]float32, d.n), Loss: make([]float32, 1), N: d.n,
						C: d.c, V: d.v, ZLoss: z}
					c.DX, c.DW = make([]float32, d.n*d.c), make([]float32, d.v*d.c)
					c.Run()
					r.checkLoss(typ, k.Launch, k.NLL, c.NLL, k.Loss, c.Loss)
					k.DX, k.DW = r.out(typ, d.n*d.c), r.out(device.F32, d.v*d.c)
					r.checkLoss(typ, k.Launch, k.NLL, c.NLL, k.Loss, c.Loss)
					tolerance := 2e-5
					if typ == device.BF16 {
						tolerance = 1e-2 // the logits and their gradient are stored in bf16
					}
					if e := relative(r.read(k.DX), c.DX); !(e < tolerance) {
						t.Errorf("dx: relative error %.3g", e)
					}
					if e := relative(r.read(k.DW), c.DW); !(e < tolerance) {
						t.Errorf("dw: relative error %.3g", e)
					}
				})
			}
		}
	}
}

func (r *rig) checkLoss(typ device.Type, launch func(*device.Stream), nll device.Buffer, wantNLL []float32,
	loss device.Buffer, wantLoss []float32) {
	r.Helper()
	tolerance := 1e-5
	if typ == device.BF16 {
		tolerance = 6e-3
	}
	launch(r.s)
	r.sync()
	first := r.read(nll)
	if e := relative(first, wantNLL); !(e < tolerance) {
		r.Errorf("nll: relative error %.3g", e)
	}
	if e := relative(r.read(loss), wantLoss); !(e < tolerance) {
		r.Errorf("loss: relative error %.3g", e)
	}
	launch(r.s)
	r.sync()
	if e := relative(r.read(nll), first); e != 0 {
		r.Errorf("nll: two runs differ by %.3g", e)
	}
}

func TestAdamW(t *testing.T) {
	for _, n := range append([]int{100_003}, sizes...) {
		for _, clip := range []float64{0, 0.5, 1e9} {
			t.Run(fmt.Sprint(n, clip), func(t *testing.T) {
				r, rng := newRig(t), rand.New(rand.NewPCG(8, uint64(n)))
				w, g, m, v := normal(rng, n), normal(rng, n), normal(rng, n), normal(rng, n)
				for i := range v {
					v[i] *= v[i]
				}
				h := AdamWHyper{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, Correct1: Correct(0.9, 3),
					Correct2: Correct(0.95, 3), Clip: clip, Scale: 0.25}
				words := h.Words()
				k := AdamW{
					W: r.in(device.F32, w), G: r.in(device.F32, g), M: r.in(device.F32, m), V: r.in(device.F32, v),
					Copy:  r.out(device.BF16, n),
					Hyper: r.in(device.F32, words[:]), Norm: r.out(device.F32, 2), Decayed: n / 2,
				}
				startW, startM, startV := append([]float32(nil), w...), append([]float32(nil), m...), append([]float32(nil), v...)
				norm, factor := clipped(g, clip, h.Scale)
				(&ref.AdamW{W: w, G: g, M: m, V: v, Decayed: n / 2, Hyper: ref.AdamWHyper{
					LR: h.LR, Beta1: h.Beta1, Beta2: h.Beta2, Eps: h.Eps, Decay: h.Decay, Correct1: h.Correct1, Correct2: h.Correct2,
					Scale: factor,
				}}).Run()
				r.check(k.Launch, result{"w", k.W, w, startW, 0}, result{"m", k.M, m, startM, 0}, result{"v", k.V, v, startV, 0},
					result{"copy", k.Copy, w, nil, 0}, result{"norm", k.Norm, []float32{float32(norm), float32(factor)}, nil, 0})
			})
		}
	}
}

func clipped(g []float32, clip, scale float64) (norm, factor float64) {
	squares := ref.SumSquares{X: g, Out: make([]float64, 1)}
	squares.Run()
	norm = scale * math.Sqrt(squares.Out[0])
	if factor = scale; clip > 0 && norm > clip {
		factor *= clip / norm
	}
	return norm, factor
}

func TestGemm(t *testing.T) {
	for _, typ := range types {
		for _, d := range []struct{ m, n, k, batch int }{{1, 1, 1, 1}, {3, 63, 65, 1}, {64, 127, 64, 1},
			{128, 64, 256, 3}, {65, 64, 72, 2}} {
			for form := range 16 {
				checkGemm(t, typ, d.m, d.n, d.k, d.batch, form&1 != 0, form&2 != 0, form&4 != 0, form&8 != 0)
			}
		}
	}
}

func checkGemm(t *testing.T, typ device.Type, m, n, k, batch int, transA, transB, bias, accumulate bool) {
	t.Run(fmt.Sprint(typ, m, n, k, batch, transA, transB, bias, accumulate), func(t *testing.T) {
		if bias && accumulate {
			return // nothing of ours asks for both
		}
		r, rng := newRig(t), rand.New(rand.NewPCG(9, uint64(m)))
		a, b, c, add := normal(rng, batch*m*k), normal(rng, batch*k*n), normal(rng, batch*m*n), normal(rng, batch*n)
		out := typ
		if accumulate {
			out = device.F32
		}
		g := Gemm{TransA: transA, TransB: transB, M: m, N: n, K: k, A: r.in(typ, a), B: r.in(typ, b), C: r.out(out, len(c)),
			Lda: k, Ldb: n, Ldc: n,
			Batch: batch, StrideA: m * k, StrideB: k * n, StrideC: m * n, Accumulate: accumulate}
		if transA {
			g.Lda = m
		}
		if transB {
			g.Ldb = k
		}
		want := ref.Gemm{TransA: transA, TransB: transB, M: m, N: n, K: k, A: a, B: b, C: append([]float32(nil), c...),
			Lda: g.Lda, Ldb: g.Ldb, Ldc: n,
			Batch: batch, StrideA: m * k, StrideB: k * n, StrideC: m * n, Accumulate: accumulate}
		if bias {
			g.Bias = r.in(typ, add)
			want.Bias = add
		}
		want.Run()
		r.check(g.Launch, result{"c", g.C, want.C, c, 0})
	})
}

func TestBadShapes(t *testing.T) {
	r := newRig(t)
	b := r.out(device.F32, 8)
	for _, c := range []struct {
		launch func(*device.Stream)
		want   string
	}{
		{(&Add{X: b, Y: b.Slice(0, 7), Out: b}).Launch, "kernels: add: Y must be 8 of f32, it is 7 of f32"},
		{(&Rope{X: b, Y: b, Table: b, B: 1, T: 1, Heads: 1, D: 8, R: 3}).Launch,
			"kernels: rope: R must be even and at most D: R 3, D 8"},
		{(&RMSNorm{X: b, W: b, Y: b, Rows: 1, Groups: 1, C: 4096}).Launch,
			"kernels: rms_norm: C up to 2048 is supported in f32, it is 4096"},
		{(&Gemm{M: 2, N: 2, K: 2, A: b, B: b, C: b, Lda: 1, Ldb: 2, Ldc: 2}).Launch, "A [2, 2] of f32 with row stride 1"},
	} {
		c.launch(r.s)
		if err := r.s.Sync(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestLaunchAllocatesNothing(t *testing.T) {
	r := newRig(t)
	const n = 64 * 64
	x, w, y, f := r.in(device.BF16, make([]float32, n)), r.in(device.BF16, make([]float32, 64)), r.out(device.BF16, n),
		r.out(device.F32, 64)
	for name, launch := range map[string]func(*device.Stream){
		"swiglu":        (&SwiGLU{x, x, y}).Launch,
		"rms_norm_grad": (&RMSNormGrad{X: x, W: w, Rstd: f, DY: x, DX: y, DW: f, Rows: 64, Groups: 1, C: 64}).Launch,
		"gemm":          (&Gemm{M: 64, N: 64, K: 64, A: x, B: x, C: y, Lda: 64, Ldb: 64, Ldc: 64}).Launch,
	} {
		launch(r.s)
		if n := testing.AllocsPerRun(20, func() { launch(r.s) }); n != 0 {
			t.Errorf("%s: %v allocations a launch", name, n)
		}
		r.sync()
	}
}
