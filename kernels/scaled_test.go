//go:build gpu

package kernels

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/internal/device"
	"headroom/kernels/ref"
)

// TestAddScaled: sums whose second term is multiplied by column, and their gradients, over rows that one block has and
// that several share.
func TestAddScaled(t *testing.T) {
	for _, typ := range types {
		for _, d := range [][2]int{{1, 8}, {37, 33}, {1000, 128}, {4097, 256}} {
			t.Run(fmt.Sprint(typ, d), func(t *testing.T) {
				r, rng := newRig(t), rand.New(rand.NewPCG(5, uint64(d[0])))
				rows, C := d[0], d[1]
				n := rows * C
				x, z, a, dy := normal(rng, n), normal(rng, n), normal(rng, C), normal(rng, n)
				bx, bz, ba, bdy := r.in(typ, x), r.in(typ, z), r.in(typ, a), r.in(typ, dy)
				y, dz, da := make([]float32, n), make([]float32, n), make([]float32, C)

				(&ref.AddScaled{X: x, Z: z, A: a, Y: y, Rows: rows, C: C}).Run()
				k := AddScaled{X: bx, Z: bz, A: ba, Y: r.out(typ, n), Rows: rows, C: C}
				r.check(k.Launch, result{"y", k.Y, y, nil, 0})

				(&ref.AddScaledGrad{Z: z, A: a, DY: dy, DZ: dz, DA: da, Rows: rows, C: C}).Run()
				g := AddScaledGrad{Z: bz, A: ba, DY: bdy, DZ: r.out(typ, n), DA: r.out(device.F32, C), Rows: rows, C: C}
				r.check(g.Launch, result{"dz", g.DZ, dz, nil, 0}, result{"da", g.DA, da, nil, 0})

				old := slices.Clone(da)
				g.Accumulate = true
				(&ref.AddScaledGrad{Z: z, A: a, DY: dy, DZ: dz, DA: da, Rows: rows, C: C, Accumulate: true}).Run()
				r.check(g.Launch, result{"dz", g.DZ, dz, nil, 0}, result{"da", g.DA, da, old, 0})
			})
		}
	}
}

// TestDecodeTurned holds the plain kernel against the reference where keys lie unrotated and are their own values.
func TestDecodeTurned(t *testing.T) {
	const page, length, H = 64, 150, 6
	rotary := ref.Rotary{Theta: 500}
	for _, typ := range types {
		for _, c := range []struct{ G, D, turn int }{{1, 16, 16}, {2, 64, 32}, {3, 256, 256}} {
			t.Run(fmt.Sprint(typ, c), func(t *testing.T) {
				r, rng := newRig(t), rand.New(rand.NewPCG(6, uint64(c.D)))
				pages := []int32{4, 0, 2}
				keys, q := normal(rng, 5*page*c.G*c.D), normal(rng, H*c.D)
				want := &ref.Decode{B: 1, T: 1, H: H, G: c.G, P: c.D, Dv: c.D, Page: page, MaxPages: 3, Scale: 0.2,
					Turn: c.turn, Rotary: rotary, Q: q, K: keys, Pages: pages, Lengths: []int32{length},
					O: make([]float32, H*c.D), LSE: make([]float32, H)}
				bk, bq := r.in(typ, keys), r.in(typ, q)
				want.Run()
				k := DecodePlain{N: 1, H: H, G: c.G, P: c.D, Dv: c.D, KDim: c.D, VDim: c.D, Page: page, MaxPages: 3, Scale: 0.2,
					Turn: c.turn, Table: r.in(device.F32, RopeTable(length, c.turn, rotary)), Q: bq, K: bk, V: bk,
					O: r.out(typ, H*c.D), Positions: r.tokens([]int32{length - 1}), Rows: r.tokens([]int32{0}),
					Pages: r.tokens(pages)}
				r.check(k.Launch, result{"o", k.O, want.O, nil, 0})
			})
		}
	}
}
