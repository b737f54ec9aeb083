package ref

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// A shape is one of the two speed cases.
type shape struct{ L, C, H, D, F, B, T, V int }

var shapes = map[string]shape{
	"L4C128": {4, 128, 4, 32, 384, 16, 256, 257},
	"L6C256": {6, 256, 8, 32, 688, 8, 512, 257},
}

// A runner is a bound kernel.
type runner interface{ Run() }

type call struct {
	name string
	r    runner
}

// A step is all kernel calls of one training step in order.
type step struct {
	shape
	src   *source
	calls []call
	back  []call // in reverse order
}

func (s *step) N() int                 { return s.B * s.T }
func (s *step) act(n int) []float32    { return s.src.normal(s.N() * n) }
func (s *step) add(n string, r runner) { s.calls = append(s.calls, call{n, r}) }
func (s *step) undo(n string, r runner) {
	s.back = append(s.back, call{n, r})
}

// linear adds y = x·w and its gradients.
func (s *step) linear(x, dx []float32, in, out int, more bool) (y, dy []float32) {
	n := s.N()
	w, dw := s.src.normal(in*out), s.src.normal(in*out)
	for i := range w {
		w[i] *= 0.05
	}
	y, dy = s.act(out), s.act(out)
	s.add("gemm", &Gemm{M: n, N: out, K: in, A: x, Lda: in, B: w, Ldb: out, C: y, Ldc: out, Batch: 1})
	s.undo("gemm dw", &Gemm{TransA: true, M: in, N: out, K: n, A: x, Lda: in, B: dy, Ldb: out, C: dw, Ldc: out, Batch: 1})
	s.undo("gemm dx", &Gemm{TransB: true, M: n, N: in, K: out, A: dy, Lda: out, B: w, Ldb: out, C: dx, Ldc: in,
		Batch: 1, Accumulate: more})
	return y, dy
}

func (s *step) norm(x, dx []float32) (y, dy []float32) {
	y, dy = s.act(s.C), s.act(s.C)
	k := &RMSNorm{X: x, W: s.src.normal(s.C), Y: y, Rstd: s.act(1), Rows: s.N(), Groups: 1, C: s.C, Eps: 1e-5}
	s.add("rmsnorm", k)
	s.undo("rmsnorm grad", &RMSNormGrad{X: x, W: k.W, Rstd: k.Rstd, DY: dy, DX: dx, DW: s.src.normal(s.C), Rows: k.Rows,
		Groups: 1, C: s.C, AccumulateDX: true})
	return y, dy
}

func (s *step) rope(x, dx []float32) {
	k := Rope{X: x, Y: x, B: s.B, T: s.T, Heads: s.H, D: s.D, R: s.D, Rotary: Rotary{Theta: 10000}}
	g := k
	g.X, g.Y, g.Inverse = dx, dx, true
	s.add("rope", &k)
	s.undo("rope grad", &g)
}

func (s *step) layer(x, dx []float32) (y, dy []float32) {
	h, dh := s.norm(x, dx)
	q, dq := s.linear(h, dh, s.C, s.C, true)
	k, dk := s.linear(h, dh, s.C, s.C, true)
	v, dv := s.linear(h, dh, s.C, s.C, false)
	s.rope(q, dq)
	s.rope(k, dk)
	o, do := s.act(s.C), s.act(s.C)
	a := Attention{B: s.B, T: s.T, H: s.H, G: s.H, P: s.D, Dv: s.D, Scale: 0.17, Q: q, K: k, V: v, KStride: s.D,
		VStride: s.D, O: o, LSE: s.act(s.H)}
	s.add("attention", &a)
	s.undo("attention grad", &AttentionGrad{Attention: a, DO: do, DQ: dq, DK: dk, DV: dv})
	z, _ := s.linear(o, do, s.C, s.C, false)
	s.add("add", &Add{X: x, Y: z, Out: z})
	h, dh = s.norm(z, dx)
	g, dg := s.linear(h, dh, s.C, s.F, true)
	u, du := s.linear(h, dh, s.C, s.F, false)
	f, df := s.act(s.F), s.act(s.F)
	s.add("swiglu", &SwiGLU{Gate: g, Up: u, Y: f})
	s.undo("swiglu grad", &SwiGLUGrad{Gate: g, Up: u, DY: df, DGate: dg, DUp: du})
	y, dy = s.linear(f, df, s.F, s.C, false)
	s.add("add", &Add{X: z, Y: y, Out: y})
	return y, dy
}

func newStep(sh shape) *step {
	s := &step{shape: sh, src: newSource(1)}
	tokens, targets := make([]int32, s.N()), make([]int32, s.N())
	for i := range tokens {
		tokens[i], targets[i] = int32(s.src.IntN(s.V)), int32(s.src.IntN(s.V))
	}
	table := s.src.normal(s.V * s.C)
	x, dx := s.act(s.C), s.act(s.C)
	s.add("embed", &Embed{Tokens: tokens, Table: table, Y: x, C: s.C})
	s.undo("embed grad", &EmbedGrad{Tokens: tokens, DY: dx, DTable: s.src.normal(s.V * s.C), C: s.C, Accumulate: true})
	for range s.L {
		x, dx = s.layer(x, dx)
	}
	h, dh := s.norm(x, dx)
	s.add("classifier", &Classifier{X: h, W: table, Targets: targets, N: s.N(), C: s.C, V: s.V, NLL: s.act(1),
		Loss: make([]float32, 1), DX: dh, DW: s.src.normal(s.V * s.C)})
	for i := len(s.back) - 1; i >= 0; i-- {
		s.calls = append(s.calls, s.back[i])
	}
	P := s.V*s.C + s.L*(4*s.C*s.C+3*s.C*s.F)
	w, g, m, v := s.src.normal(P), s.src.normal(P), s.src.normal(P), make([]float32, P)
	s.add("norm", &SumSquares{X: g, Out: make([]float64, 1)})
	s.add("adamw", &AdamW{W: w, G: g, M: m, V: v, Decayed: P, Hyper: AdamWHyper{LR: 1e-3, Beta1: 0.9, Beta2: 0.95,
		Eps: 1e-8, Decay: 0.1, Scale: 1, Correct1: 0.1, Correct2: 0.05}})
	return s
}

// BenchmarkStep is the sum of a training step's kernel calls for GQA with as many groups as heads.
func BenchmarkStep(b *testing.B) {
	for _, name := range []string{"L4C128", "L6C256"} {
		sh := shapes[name]
		b.Run(name, func(b *testing.B) {
			s := newStep(sh)
			for _, c := range s.calls {
				c.r.Run()
			}
			b.ReportAllocs()
			cpu := cpuTime()
			for b.Loop() {
				for _, c := range s.calls {
					c.r.Run()
				}
			}
			b.ReportMetric((cpuTime()-cpu).Seconds()*1e3/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(s.N()*b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// cpuTime is what all cores spent on this process, which other processes disturb less than the clock on the wall.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkKernel times every kernel of the step apart, in milliseconds of a whole step, with a step's cache state.
func BenchmarkKernel(b *testing.B) {
	for _, name := range []string{"L4C128", "L6C256"} {
		sh := shapes[name]
		s := newStep(sh)
		names := []string{}
		seen := map[string]bool{}
		for _, c := range s.calls {
			key := c.name
			if g, ok := c.r.(*Gemm); ok {
				key = fmt.Sprintf("%s M%d N%d K%d", key, g.M, g.N, g.K)
			}
			if !seen[key] {
				seen[key] = true
				names = append(names, key)
			}
		}
		for _, key := range names {
			b.Run(name+"/"+key, func(b *testing.B) { s.bench(b, key) })
		}
	}
}

func (s *step) bench(b *testing.B, key string) {
	calls, flops := []runner{}, 0
	for _, c := range s.calls {
		if g, ok := c.r.(*Gemm); ok {
			if key != fmt.Sprintf("%s M%d N%d K%d", c.name, g.M, g.N, g.K) {
				continue
			}
			flops += 2 * g.M * g.N * g.K
		} else if c.name != key {
			continue
		}
		calls = append(calls, c.r)
		c.r.Run()
	}
	cpu := cpuTime()
	for b.Loop() {
		for _, r := range calls {
			r.Run()
		}
	}
	b.ReportMetric((cpuTime()-cpu).Seconds()*1e3/float64(b.N), "cpu-ms/op")
	if flops > 0 {
		b.ReportMetric(float64(flops*b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	}
}
