//go:build gpu

package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"headroom/kernels/ref"
)

func TestGate(t *testing.T) {
	for _, typ := range types {
		for _, per := range []int{1, 3, 16, 33, 64, 128} {
			for _, n := range append([]int{1001}, sizes...) {
				t.Run(fmt.Sprint(typ, per, n), func(t *testing.T) {
					r, rng := newRig(t), rand.New(rand.NewPCG(5, uint64(n)))
					o, g, dy := normal(rng, n*per), normal(rng, n), normal(rng, n*per)
					bo, bg, bdy := r.in(typ, o), r.in(typ, g), r.in(typ, dy)
					y, do, dg := make([]float32, n*per), make([]float32, n*per), make([]float32, n)
					(&ref.Gate{O: o, G: g, Y: y, Per: per}).Run()
					gate := Gate{bo, bg, r.out(typ, n*per), per}
					r.check(gate.Launch, result{"gate", gate.Y, y, nil, 0})
					inPlace := Gate{gate.Y, bg, gate.Y, per}
					r.check(inPlace.Launch, result{"in place", gate.Y, y, o, 0})

					(&ref.GateGrad{O: o, G: g, DY: dy, DO: do, DG: dg, Per: per}).Run()
					grad := GateGrad{bo, bg, bdy, r.out(typ, n*per), r.out(typ, n), per}
					r.check(grad.Launch, result{"do", grad.DO, do, nil, 0}, result{"dg", grad.DG, dg, nil, 0})
				})
			}
		}
	}
}

func TestColumns(t *testing.T) {
	for _, typ := range types {
		for _, d := range [][3]int{{1, 5, 1}, {3, 7, 7}, {65, 20, 12}, {1000, 768, 12}, {1000, 12, 768}, {65, 12, 20}} {
			t.Run(fmt.Sprint(typ, d), func(t *testing.T) {
				r, rows, from, to := newRig(t), d[0], d[1], d[2]
				x, y := normal(rand.New(rand.NewPCG(6, 1)), rows*from), make([]float32, rows*to)
				k := Columns{r.in(typ, x), r.out(typ, rows*to), from, to}
				(&ref.Columns{X: x, Y: y, From: from, To: to}).Run()
				r.check(k.Launch, result{"columns", k.Y, y, nil, 0})
			})
		}
	}
}

// TestDecodeOutputGate: gates that lie in a wider product gate rows in place.
func TestDecodeOutputGate(t *testing.T) {
	for _, typ := range types {
		for _, d := range []struct{ rows, heads, per, stride, at int }{{1, 4, 64, 4, 0}, {3, 5, 16, 88, 80},
			{17, 100, 1, 309, 200}, {300, 12, 64, 1552, 1536}} {
			t.Run(fmt.Sprint(typ, d), func(t *testing.T) {
				r, rng, width := newRig(t), rand.New(rand.NewPCG(7, 1)), d.heads*d.per
				all, o := normal(rng, d.rows*d.stride), normal(rng, d.rows*width)
				product, out := r.in(typ, all), r.in(typ, o)
				g, y := make([]float32, 0, d.rows*d.heads), make([]float32, d.rows*width)
				for row := range d.rows {
					g = append(g, all[row*d.stride+d.at:][:d.heads]...)
				}
				(&ref.Gate{O: o, G: g, Y: y, Per: d.per}).Run()
				k := DecodeOutputGate{G: product.Slice(d.at, product.N), O: out, Rows: d.rows, Width: width, Per: d.per,
					Stride: d.stride}
				r.check(k.Launch, result{"o", k.O, y, o, 0})
			})
		}
	}
}
