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

// TestDecodeFactors holds attention to a paged cache of factors against that to the keys and values that they make.
func TestDecodeFactors(t *testing.T) {
	const page, length, H = 64, 150, 6
	for _, typ := range types {
		for _, c := range []struct{ R, D, window int }{{1, 16, 0}, {2, 64, 0}, {3, 256, 100}} {
			t.Run(fmt.Sprint(typ, c), func(t *testing.T) {
				r, rng := newRig(t), rand.New(rand.NewPCG(8, uint64(c.D)))
				pages, tokens := []int32{4, 0, 2}, 5*page
				bk, bv := normal(rng, tokens*c.R*c.D), normal(rng, tokens*c.R*c.D)
				ak, av, q := normal(rng, tokens*H*c.R), normal(rng, tokens*H*c.R), normal(rng, H*c.D)
				k := DecodeFactors{N: 1, H: H, R: c.R, D: c.D, Page: page, MaxPages: 3, Window: c.window, Scale: 0.1,
					Q: r.in(typ, q), BK: r.in(typ, bk), BV: r.in(typ, bv), AK: r.in(typ, ak), AV: r.in(typ, av),
					O: r.out(typ, H*c.D), Positions: r.tokens([]int32{length - 1}), Rows: r.tokens([]int32{0}),
					Pages: r.tokens(pages)}
				want := &ref.Decode{B: 1, T: 1, H: H, G: H, P: c.D, Dv: c.D, Page: page, MaxPages: 3, Scale: 0.1,
					Window: c.window, Q: q, K: make([]float32, tokens*H*c.D), V: make([]float32, tokens*H*c.D), Pages: pages,
					Lengths: []int32{length}, O: make([]float32, H*c.D), LSE: make([]float32, H)}
				for _, x := range []struct{ a, b, y []float32 }{{ak, bk, want.K}, {av, bv, want.V}} {
					(&ref.Expand{A: x.a, B: x.b, Y: x.y, Rows: tokens, H: H, R: c.R, D: c.D, Scale: 1 / float32(c.R)}).Run()
				}
				want.Run()
				r.check(k.Launch, result{"o", k.O, want.O, nil, 0})
			})
		}
	}
}
