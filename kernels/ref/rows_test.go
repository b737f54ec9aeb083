package ref

import (
	"fmt"
	"math"
	"testing"
)

func TestAdd(t *testing.T) {
	for _, n := range append(sizes, 20000) {
		s := newSource(uint64(n))
		x, y := s.normal(n), s.normal(n)
		want := wide(x)
		for i, v := range y {
			want[i] += float64(v)
		}
		k := &Add{X: x, Y: y, Out: s.guarded(n)}
		twice(t, k, k.Out)
		near(t, "out", k.Out, want, 1e-7)
		(&Add{X: x, Y: y, Out: y}).Run()
		near(t, "out on y", y, want, 1e-7)
		s.check(t)
	}
}

func TestColSum(t *testing.T) {
	for _, rows := range sizes {
		for _, n := range []int{1, 3, 64, 65, 200} {
			s := newSource(uint64(rows))
			k := &ColSum{X: s.normal(rows * n), Y: s.guarded(n), Rows: rows, N: n}
			want := make([]float64, n)
			for i, v := range k.X {
				want[i%n] += float64(v)
			}
			twice(t, k, k.Y)
			near(t, "y", k.Y, want, 1e-5)
			k.Accumulate = true
			accumulates(t, "y", k, k.Y, want, 1e-5)
			s.check(t)
		}
	}
}

func TestSumSquares(t *testing.T) {
	for _, n := range append(sizes, 0, words, words+1, 3*words+5) {
		k := &SumSquares{X: newSource(uint64(n)).normal(n), Out: []float64{-1}}
		k.Run()
		x := wide(k.X)
		first := k.Out[0]
		if want := dot64(x, x); math.Abs(first-want) > 1e-12*want {
			t.Errorf("%d words: %g, want %g", n, first, want)
		}
		if k.Run(); k.Out[0] != first {
			t.Errorf("%d words: %g, then %g", n, first, k.Out[0])
		}
	}
}

func TestEmbed(t *testing.T) {
	for _, c := range []int{1, 3, 64, 130} {
		const V, N = 7, 300
		s := newSource(uint64(c))
		tokens := make([]int32, N)
		for i := range tokens {
			tokens[i] = int32(s.IntN(V - 1)) // the last row stays unused
		}
		k := &Embed{Tokens: tokens, Table: s.normal(V * c), Y: s.guarded(N * c), C: c}
		g := &EmbedGrad{Tokens: tokens, DY: s.normal(N * c), DTable: s.guarded(V * c), C: c}
		y, dt := make([]float64, N*c), make([]float64, V*c)
		for i, tok := range tokens {
			for j := range c {
				y[i*c+j] = float64(k.Table[int(tok)*c+j])
				dt[int(tok)*c+j] += float64(g.DY[i*c+j])
			}
		}
		twice(t, k, k.Y)
		near(t, "y", k.Y, y, 0)
		twice(t, g, g.DTable)
		near(t, "dtable", g.DTable, dt, 2e-6)
		g.Accumulate = true
		accumulates(t, "dtable", g, g.DTable, dt, 2e-6)
		s.check(t)
	}
}

// rms is the oracle of RMSNorm.
func rms(x, w []float64, groups, c int, eps float64) (y, rstd []float64) {
	y, rstd = make([]float64, len(x)), make([]float64, len(x)/c)
	for i := range rstd {
		row := x[i*c : (i+1)*c]
		rstd[i] = 1 / math.Sqrt(dot64(row, row)/float64(c)+eps)
		for j, v := range row {
			y[i*c+j] = rstd[i] * v * w[i%groups*c+j]
		}
	}
	return y, rstd
}

func TestRMSNorm(t *testing.T) {
	for _, c := range sizes {
		for _, groups := range []int{1, 3} {
			t.Run(fmt.Sprintf("%d/%d", c, groups), func(t *testing.T) { testRMSNorm(t, 5, groups, c) })
		}
	}
	testRMSNorm(t, 2*normRows+3, 1, 3)
}

func testRMSNorm(t *testing.T, rows, groups, c int) {
	const eps = 1e-3
	s := newSource(uint64(c))
	n := rows * groups * c
	k := &RMSNorm{X: s.normal(n), W: s.normal(groups * c), Y: s.guarded(n), Rstd: s.guarded(rows * groups), Rows: rows,
		Groups: groups, C: c, Eps: eps}
	x, w := wide(k.X), wide(k.W)
	y, rstd := rms(x, w, groups, c, eps)
	twice(t, k, k.Y, k.Rstd)
	near(t, "y", k.Y, y, 1e-6)
	near(t, "rstd", k.Rstd, rstd, 1e-6)

	g := &RMSNormGrad{X: k.X, W: k.W, Rstd: k.Rstd, DY: s.normal(n), DX: s.guarded(n), DW: s.guarded(groups * c),
		Rows: rows, Groups: groups, C: c}
	dy := wide(g.DY)
	loss := func() float64 { y, _ := rms(x, w, groups, c, eps); return dot64(y, dy) }
	dx, dw := slope(loss, x), slope(loss, w)
	twice(t, g, g.DX, g.DW)
	near(t, "dx", g.DX, dx, 1e-5)
	near(t, "dw", g.DW, dw, 1e-5)
	g.AccumulateDX = true
	accumulates(t, "dx", g, g.DX, dx, 1e-5)
	g.AccumulateDX, g.AccumulateDW = false, true
	accumulates(t, "dw", g, g.DW, dw, 1e-5)
	g.DX = g.DY
	g.Run()
	near(t, "dx over dy", g.DX, dx, 1e-5)
	s.check(t)
}

func swish(g, u []float64) []float64 {
	y := make([]float64, len(g))
	for i := range y {
		y[i] = g[i] * u[i] / (1 + math.Exp(-g[i]))
	}
	return y
}

// testGated holds a gated product and its gradient, of any size, against an oracle and its slopes.
func testGated(t *testing.T, oracle func(gate, up []float64) []float64, product func(gate, up, y []float32) runner,
	gradient func(gate, up, dy, dgate, dup []float32) runner) {
	t.Helper()
	for _, n := range append(sizes, gateWords+5) {
		s := newSource(uint64(n))
		gate, up, y := s.normal(n), s.normal(n), s.guarded(n)
		wideGate, wideUp := wide(gate), wide(up)
		twice(t, product(gate, up, y), y)
		near(t, "y", y, oracle(wideGate, wideUp), 1e-6)
		if n > 127 {
			continue
		}
		dy, dgate, dup := s.normal(n), s.guarded(n), s.guarded(n)
		wideDY := wide(dy)
		loss := func() float64 { return dot64(oracle(wideGate, wideUp), wideDY) }
		twice(t, gradient(gate, up, dy, dgate, dup), dgate, dup)
		near(t, "dgate", dgate, slope(loss, wideGate), 1e-6)
		near(t, "dup", dup, slope(loss, wideUp), 1e-6)
		s.check(t)
	}
}

func TestSwiGLU(t *testing.T) {
	testGated(t, swish, func(gate, up, y []float32) runner { return &SwiGLU{gate, up, y} },
		func(gate, up, dy, dgate, dup []float32) runner { return &SwiGLUGrad{gate, up, dy, dgate, dup} })
	k := &SwiGLU{Gate: []float32{-200, 200, float32(math.NaN())}, Up: []float32{1, 1, 1}, Y: make([]float32, 3)}
	if k.Run(); math.Abs(float64(k.Y[0])) > 1e-30 || k.Y[1] != 200 || k.Y[2] == k.Y[2] {
		t.Errorf("swiglu of -200, 200, NaN = %v", k.Y)
	}
}

// gelu is the oracle of GeGLU: PyTorch's gelu with approximate="tanh".
func gelu(g, u []float64) []float64 {
	y := make([]float64, len(g))
	for i, x := range g {
		y[i] = x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))) * u[i]
	}
	return y
}

func TestGeGLU(t *testing.T) {
	testGated(t, gelu, func(gate, up, y []float32) runner { return &GeGLU{gate, up, y} },
		func(gate, up, dy, dgate, dup []float32) runner { return &GeGLUGrad{gate, up, dy, dgate, dup} })
	far := []float32{-200, 200, float32(math.NaN())}
	k := &GeGLU{Gate: far, Up: []float32{1, 1, 1}, Y: make([]float32, 3)}
	if k.Run(); math.Abs(float64(k.Y[0])) > 1e-30 || k.Y[1] != 200 || k.Y[2] == k.Y[2] {
		t.Errorf("geglu of -200, 200, NaN = %v", k.Y)
	}
	g := &GeGLUGrad{Gate: far, Up: k.Up, DY: k.Up, DGate: make([]float32, 3), DUp: make([]float32, 3)}
	if g.Run(); math.Abs(float64(g.DGate[0])) > 1e-30 || g.DGate[1] != 1 || g.DGate[2] == g.DGate[2] || g.DUp[1] != 200 {
		t.Errorf("its gradients there are %v and %v", g.DGate, g.DUp)
	}
}

// rotate is the oracle of Rope.
func rotate(k *Rope, x []float64) []float64 {
	y := append([]float64(nil), x...)
	h := k.R / 2
	for row := range k.B * k.T * k.Heads {
		t, at := row/k.Heads%k.T, row*k.D+k.D-k.R
		for i := range h {
			a := float64(t) * math.Pow(k.Rotary.Theta, -2*float64(i)/float64(k.R))
			if k.Inverse {
				a = -a
			}
			sin, cos := math.Sincos(a)
			y[at+i], y[at+h+i] = x[at+i]*cos-x[at+h+i]*sin, x[at+h+i]*cos+x[at+i]*sin
		}
	}
	return y
}

func TestRope(t *testing.T) {
	for _, d := range [][2]int{{2, 2}, {6, 4}, {32, 32}, {64, 32}, {96, 64}, {20, 18}} {
		for _, T := range []int{1, 3, 65} {
			s := newSource(uint64(T))
			k := &Rope{B: 2, T: T, Heads: 3, D: d[0], R: d[1], Rotary: Rotary{Theta: 10000}}
			n := 2 * T * 3 * d[0]
			k.X, k.Y = s.normal(n), s.guarded(n)
			twice(t, k, k.Y)
			near(t, "y", k.Y, rotate(k, wide(k.X)), 1e-6)
			back := *k
			back.X, back.Y, back.Inverse = k.Y, k.Y, true
			back.Run()
			near(t, "y rotated back in place", k.Y, wide(k.X), 1e-6)
			s.check(t)
		}
	}
}

func TestAdamW(t *testing.T) {
	for _, n := range append(sizes, words+7) {
		for _, decayed := range []int{0, n / 2, n} {
			s := newSource(uint64(n))
			k := &AdamW{W: s.normal(n), G: s.normal(n), M: s.guarded(n), V: s.guarded(n), Decayed: decayed}
			clear(k.M)
			clear(k.V)
			w, m, v := wide(k.W), wide(k.M), wide(k.V)
			for step := 1.0; step <= 3; step++ {
				k.Hyper = AdamWHyper{LR: 0.01 * step, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, Scale: 0.5,
					Correct1: 1 - math.Pow(0.9, step), Correct2: 1 - math.Pow(0.95, step)}
				k.Run()
				for i := range w {
					g, decay := 0.5*float64(k.G[i]), 0.0
					if i < decayed {
						decay = 0.1
					}
					m[i], v[i] = 0.9*m[i]+0.1*g, 0.95*v[i]+0.05*g*g
					w[i] -= k.Hyper.LR * (m[i]/k.Hyper.Correct1/(math.Sqrt(v[i]/k.Hyper.Correct2)+1e-8) + decay*w[i])
				}
			}
			near(t, "w", k.W, w, 1e-6)
			near(t, "m", k.M, m, 1e-6)
			near(t, "v", k.V, v, 1e-6)
			s.check(t)
		}
	}
}
