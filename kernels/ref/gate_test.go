package ref

import (
	"fmt"
	"math"
	"testing"
)

// opened is the oracle of Gate.
func opened(o, g []float64) []float64 {
	y, per := make([]float64, len(o)), len(o)/len(g)
	for i := range y {
		y[i] = o[i] / (1 + math.Exp(-g[i/per]))
	}
	return y
}

// TestGate: a gate of every word, or of a head, is o·σ(g), and its gradients are slopes.
func TestGate(t *testing.T) {
	for _, per := range []int{1, 2, 3, 16, 64, 100} {
		for _, n := range append(sizes, gateWords+5) {
			if n > 127 && per > 3 {
				continue
			}
			t.Run(fmt.Sprintf("%d of %d", n, per), func(t *testing.T) {
				s := newSource(uint64(n*128 + per))
				k := &Gate{O: s.normal(n * per), G: s.normal(n), Y: s.guarded(n * per), Per: per}
				o, g := wide(k.O), wide(k.G)
				twice(t, k, k.Y)
				near(t, "y", k.Y, opened(o, g), 1e-6)
				if n > 17 {
					return
				}
				d := &GateGrad{O: k.O, G: k.G, DY: s.normal(n * per), DO: s.guarded(n * per), DG: s.guarded(n), Per: per}
				dy := wide(d.DY)
				loss := func() float64 { return dot64(opened(o, g), dy) }
				twice(t, d, d.DO, d.DG)
				near(t, "do", d.DO, slope(loss, o), 1e-6)
				near(t, "dg", d.DG, slope(loss, g), 1e-6)
				want := wide(k.Y)
				k.Y = k.O
				k.Run()
				near(t, "y in place", k.Y, want, 0)
				s.check(t)
			})
		}
	}
}

// TestGateFar: gates far from 0 are wide open or shut, and have no slope; what is not a number stays so.
func TestGateFar(t *testing.T) {
	nan := float32(math.NaN())
	for _, per := range []int{1, 2} {
		g := []float32{-200, 200, nan}
		o, dy := make([]float32, 3*per), make([]float32, 3*per)
		for i := range o {
			o[i], dy[i] = 3, 2
		}
		y, do, dg := make([]float32, len(o)), make([]float32, len(o)), make([]float32, 3)
		(&Gate{O: o, G: g, Y: y, Per: per}).Run()
		(&GateGrad{O: o, G: g, DY: dy, DO: do, DG: dg, Per: per}).Run()
		if math.Abs(float64(y[0])) > 1e-30 || y[per] != 3 || y[2*per] == y[2*per] {
			t.Errorf("gates of %v let %v through", g, y)
		}
		if math.Abs(float64(do[0])) > 1e-30 || do[per] != 2 || math.Abs(float64(dg[0])) > 1e-30 || dg[1] != 0 ||
			dg[2] == dg[2] {
			t.Errorf("gates of %v have gradients %v and %v", g, do, dg)
		}
	}
}

// TestColumns: rows are cut to their first columns, and back with zeros behind them.
func TestColumns(t *testing.T) {
	for _, d := range [][3]int{{1, 5, 1}, {3, 7, 7}, {65, 20, 12}, {5, 4000, 12}, {2, 12, 4000}, {65, 12, 20}} {
		s, rows, from, to := newSource(1), d[0], d[1], d[2]
		k := &Columns{X: s.normal(rows * from), Y: s.guarded(rows * to), From: from, To: to}
		twice(t, k, k.Y)
		for i, y := range k.Y {
			want := float32(0)
			if i%to < from {
				want = k.X[i/to*from+i%to]
			}
			if y != want {
				t.Fatalf("%v: row %d has %v in column %d, want %v", d, i/to, y, i%to, want)
			}
		}
		s.check(t)
	}
}
