//go:build gpu

package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"headroom/kernels/ref"
)

// TestExpand: products of factors over heads and over columns, and their gradients.
func TestExpand(t *testing.T) {
	for _, typ := range types {
		for _, c := range []struct{ rows, H, R, D int }{{1, 1, 1, 8}, {37, 5, 3, 33}, {513, 47, 6, 64},
			{100, 12, 2, 128}, {65, 6, 8, 96}, {40, 4, 9, 64}, {33, 3, 2, 256}} {
			t.Run(fmt.Sprint(typ, c), func(t *testing.T) {
				r, rng := newRig(t), rand.New(rand.NewPCG(7, uint64(c.rows)))
				heads, columns, n := c.rows*c.H*c.R, c.rows*c.R*c.D, c.rows*c.H*c.D
				a, b, dy := normal(rng, heads), normal(rng, columns), normal(rng, n)
				ba, bb, bdy := r.in(typ, a), r.in(typ, b), r.in(typ, dy)
				y, da, db := make([]float32, n), make([]float32, heads), make([]float32, columns)

				(&ref.Expand{A: a, B: b, Y: y, Rows: c.rows, H: c.H, R: c.R, D: c.D, Scale: 0.5}).Run()
				k := Expand{A: ba, B: bb, Y: r.out(typ, n), Rows: c.rows, H: c.H, R: c.R, D: c.D, Scale: 0.5}
				r.check(k.Launch, result{"y", k.Y, y, nil, 0})

				(&ref.ExpandGrad{A: a, B: b, DY: dy, DA: da, DB: db, Rows: c.rows, H: c.H, R: c.R, D: c.D, Scale: 0.5}).Run()
				g := ExpandGrad{A: ba, B: bb, DY: bdy, DA: r.out(typ, heads), DB: r.out(typ, columns), Rows: c.rows, H: c.H,
					R: c.R, D: c.D, Scale: 0.5}
				r.check(g.Launch, result{"da", g.DA, da, nil, 0}, result{"db", g.DB, db, nil, 0})
			})
		}
	}
}
