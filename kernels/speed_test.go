//go:build gpu

package kernels

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"headroom/internal/device"
	"headroom/kernels/ref"
)

// The benchmarks time kernels on the shapes of training (32768 tokens; width 768, MLP 2048, vocabulary 128,256; 174 M
// parameters) and report the time, the bytes that must move over it, and its share of what a copy reaches. Run them
// with -test.bench=. -test.benchtime=1x: one iteration is the median of many launches.

const tokens, width, mlp, vocabulary = 32768, 768, 2048, 128256

// median times launch, between events of which the host has queued all before the first has passed: a launch alone
// takes the host longer than the shorter kernels run.
func (r *rig) median(b *testing.B, launch func(*device.Stream)) float64 {
	b.Helper()
	const warm, runs = 3, 20
	ballast := r.out(device.U8, 1<<30)
	events := make([]*device.Event, warm+runs+1)
	for i := range events {
		var err error
		if events[i], err = r.dev.NewEvent(); err != nil {
			b.Fatal(err)
		}
		defer events[i].Close()
	}
	launch(r.s) // loads what it needs
	r.sync()
	for range 4 {
		r.s.Fill(ballast, 1)
	}
	for i, e := range events {
		r.s.Record(e)
		if i < len(events)-1 {
			launch(r.s)
		}
	}
	r.sync()
	var took []time.Duration
	for i := warm; i < warm+runs; i++ {
		d, err := events[i+1].Since(events[i])
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, d)
	}
	slices.Sort(took)
	return took[len(took)/2].Seconds()
}

// speed reports the time of launch, and the rates of what it moves and computes.
func (r *rig) speed(b *testing.B, bytes, flops float64, launch func(*device.Stream)) {
	b.Helper()
	median := r.median(b, launch)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median*1e6, "µs")
	if bytes > 0 {
		b.ReportMetric(bytes/median/1e9, "GB/s")
		b.ReportMetric(100*bytes/median/4.3e12, "%ofcopy")
	}
	if flops > 0 {
		b.ReportMetric(flops/median/1e12, "TFLOP/s")
	}
}

// random is n elements of noise.
func (r *rig) random(t device.Type, n int, scale float32) device.Buffer {
	x := r.out(t, n)
	(&Noise{X: x, Seed: uint64(len(r.bufs)), Scale: scale}).Launch(r.s)
	return x
}

// text is n tokens with the frequencies of words: token i about as often as 1/(i+1).
func (r *rig) text(n, v int) device.Buffer {
	rng := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rng, 1.05, 2, uint64(v-1))
	x := make([]int32, n)
	for i := range x {
		x[i] = int32(zipf.Uint64())
	}
	return r.tokens(x)
}

func BenchmarkCopy(b *testing.B) {
	r := newRig(b)
	const n = 2 << 30
	x, y := r.random(device.BF16, n/2, 1), r.out(device.BF16, n/2)
	r.speed(b, 2*n, 0, func(s *device.Stream) { s.Copy(y, x) })
}

func BenchmarkElementwise(b *testing.B) {
	for _, c := range []struct {
		name   string
		passes float64
		launch func(r *rig) func(*device.Stream)
	}{
		{"add", 3, func(r *rig) func(*device.Stream) {
			const n = tokens * mlp
			return (&Add{r.random(device.BF16, n, 1), r.random(device.BF16, n, 1), r.out(device.BF16, n)}).Launch
		}},
		{"swiglu", 3, func(r *rig) func(*device.Stream) {
			const n = tokens * mlp
			return (&SwiGLU{r.random(device.BF16, n, 1), r.random(device.BF16, n, 1), r.out(device.BF16, n)}).Launch
		}},
		{"swiglu_grad", 5, func(r *rig) func(*device.Stream) {
			const n = tokens * mlp
			return (&SwiGLUGrad{r.random(device.BF16, n, 1), r.random(device.BF16, n, 1), r.random(device.BF16, n, 1),
				r.out(device.BF16, n), r.out(device.BF16, n)}).Launch
		}},
		{"cast", 3, func(r *rig) func(*device.Stream) {
			const n = tokens * mlp
			return (&Cast{r.random(device.F32, n, 1), r.out(device.BF16, n)}).Launch
		}},
		{"rope", 2 * 24 * 64.0 / mlp, func(r *rig) func(*device.Stream) { // 24 heads of 64 in place
			x := r.random(device.BF16, tokens*24*64, 1)
			table := r.in(device.F32, RopeTable(2048, 64, ref.Rotary{Theta: 1e4}))
			return (&Rope{X: x, Y: x, Table: table, B: tokens / 2048, T: 2048,
				Heads: 24, D: 64, R: 64}).Launch
		}},
		{"col_sum", 1, func(r *rig) func(*device.Stream) {
			return (&ColSum{X: r.random(device.BF16, tokens*mlp, 1), Y: r.out(device.F32, mlp), Rows: tokens, N: mlp}).Launch
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b)
			r.speed(b, c.passes*2*tokens*mlp, 0, c.launch(r))
		})
	}
}

func BenchmarkNorm(b *testing.B) {
	for _, shape := range []struct {
		name    string
		rows, c int
	}{{"768", tokens, 768}, {"1536", tokens / 2, 1536}, {"2048", tokens / 2, 2048}} {
		rows, c := shape.rows, shape.c
		n := rows * c
		b.Run("forward/"+shape.name, func(b *testing.B) {
			r := newRig(b)
			k := RMSNorm{X: r.random(device.BF16, n, 1), Add: r.random(device.BF16, n, 1), Sum: r.out(device.BF16, n),
				W: r.random(device.BF16, c, 1),
				Y: r.out(device.BF16, n), Rstd: r.out(device.F32, rows), Rows: rows, Groups: 1, C: c, Eps: 1e-5}
			r.speed(b, 4*2*float64(n), 0, k.Launch)
		})
		b.Run("backward/"+shape.name, func(b *testing.B) {
			r := newRig(b)
			k := RMSNormGrad{X: r.random(device.BF16, n, 1), Add: r.random(device.BF16, n, 1), W: r.random(device.BF16, c, 1),
				Rstd: r.random(device.F32, rows, 1),
				DY:   r.random(device.BF16, n, 1), DX: r.out(device.BF16, n), DW: r.out(device.F32, c), Rows: rows, Groups: 1, C: c}
			r.speed(b, 4*2*float64(n), 0, k.Launch)
		})
	}
}

func BenchmarkEmbed(b *testing.B) {
	for _, v := range []int{256, vocabulary} {
		name := map[int]string{256: "256", vocabulary: "128256"}[v]
		b.Run("forward/"+name, func(b *testing.B) {
			r := newRig(b)
			k := Embed{Tokens: r.text(tokens, v), Table: r.random(device.BF16, v*width, 1),
				Y: r.out(device.BF16, tokens*width), C: width}
			r.speed(b, 2*tokens*width, 0, k.Launch) // the rows written; those read are in L2 or few
		})
		b.Run("backward/"+name, func(b *testing.B) {
			r := newRig(b)
			k := EmbedGrad{Tokens: r.text(tokens, v), DY: r.random(device.BF16, tokens*width, 1),
				DTable: r.random(device.F32, v*width, 1), C: width, Accumulate: true}
			r.speed(b, 2*tokens*width, 0, k.Launch)
		})
	}
}

func BenchmarkClassifier(b *testing.B) {
	const rows = 4096
	b.Run("kernel", func(b *testing.B) { // alone, on one chunk of logits: one pass in, one out
		r := newRig(b)
		logits, f := r.random(device.BF16, rows*vocabulary, 2), r.out(device.F32, 2*rows+1)
		device.Upload(r.s, f.Slice(2*rows, 2*rows+1), []float32{1.0 / tokens})
		args := classifierArgs{logits.Ptr, r.text(rows, vocabulary).Ptr, f.Ptr, f.At(rows), f.At(2 * rows), 1, 0,
			vocabulary, vocabulary}
		r.speed(b, 4*rows*vocabulary, 0, func(s *device.Stream) { launchClassifier(s, device.BF16, rows, &args) })
	})
	b.Run("whole", func(b *testing.B) {
		r := newRig(b)
		k := Classifier{X: r.random(device.BF16, tokens*width, 1), W: r.random(device.BF16, vocabulary*width, 0.02),
			Targets: r.text(tokens, vocabulary),
			NLL:     r.out(device.F32, tokens), Loss: r.out(device.F32, 1), DX: r.out(device.BF16, tokens*width),
			DW: r.out(device.F32, vocabulary*width),
			N:  tokens, C: width, V: vocabulary}
		if err := k.Tune(r.s); err != nil {
			b.Fatal(err)
		}
		r.speed(b, 0, 3*2*tokens*float64(vocabulary)*width, k.Launch)
	})
}

func BenchmarkAdamW(b *testing.B) {
	r := newRig(b)
	const n = 174_000_000
	words := AdamWHyper{LR: 1e-4, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, Correct1: 0.1,
		Correct2: 0.05, Clip: 1, Scale: 1}.Words()
	k := AdamW{W: r.random(device.F32, n, 1), G: r.random(device.F32, n, 1), M: r.random(device.F32, n, 1),
		V: r.out(device.F32, n), Copy: r.out(device.BF16, n),
		Hyper: r.in(device.F32, words[:]), Norm: r.out(device.F32, 2), Decayed: n}
	r.s.Fill(k.V, 0x3f)
	r.speed(b, 34*n, 0, k.Launch) // the norm reads the gradients once more
}

func BenchmarkGemm(b *testing.B) {
	for _, c := range []struct {
		name           string
		m, n, k        int
		transA, transB bool
		out            device.Type
		accumulate     bool
	}{
		{"square 8192", 8192, 8192, 8192, false, false, device.BF16, false},
		{"32768x768x768", tokens, 768, 768, false, false, device.BF16, false},
		{"32768x2048x768", tokens, 2048, 768, false, false, device.BF16, false},
		{"32768x768x2048 dx", tokens, 768, 2048, false, true, device.BF16, false},
		{"768x2048x32768 dw", 768, 2048, tokens, true, false, device.F32, true},
		{"16384x4096x1536", 16384, 4096, 1536, false, false, device.BF16, false},
		{"1536x4096x16384 dw", 1536, 4096, 16384, true, false, device.F32, true},
		{"4096x128256x768 logits", 4096, vocabulary, 768, false, true, device.BF16, false},
		{"4096x768x128256 dx", 4096, 768, vocabulary, false, false, device.BF16, false},
		{"128256x768x4096 dw", vocabulary, 768, 4096, true, false, device.F32, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b)
			g := Gemm{TransA: c.transA, TransB: c.transB, M: c.m, N: c.n, K: c.k, A: r.random(device.BF16, c.m*c.k, 1),
				B: r.random(device.BF16, c.n*c.k, 1),
				C: r.out(c.out, c.m*c.n), Lda: c.k, Ldb: c.n, Ldc: c.n, Accumulate: c.accumulate}
			if c.transA {
				g.Lda = c.m
			}
			if c.transB {
				g.Ldb = c.k
			}
			first := r.median(b, g.Launch)
			if _, err := g.Tune(r.s, false); err != nil {
				b.Fatal(err)
			}
			r.speed(b, 0, g.Product().FLOPs(), g.Launch)
			b.ReportMetric(g.Product().FLOPs()/first/1e12, "untuned-TFLOP/s")
		})
	}
}
