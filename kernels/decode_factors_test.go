//go:build gpu

package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"headroom/internal/device"
	"headroom/kernels/ref"
)

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

// TestDecodeFactorsInPairs holds the kernel of two factors against the reference: tokens at several positions and one
// without a request, caches that one block reads and that a cluster shares, with NaN wherever nothing may be read.
func TestDecodeFactorsInPairs(t *testing.T) {
	const page, slots, R = 64, 7 * 64, 2
	pages := []int32{4, 0, 2, 6, 1}
	for _, c := range []struct{ N, H, D, window int }{{4, 12, 64, 0}, {4, 64, 128, 0}, {4, 20, 128, 100}, {4, 128, 64, 37},
		{4, 128, 128, 0}, {4, 47, 64, 50}, {140, 64, 128, 0}, {60, 32, 64, 200}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			r, rng := newRig(t), rand.New(rand.NewPCG(9, uint64(c.H)))
			positions, rows := make([]int32, c.N), make([]int32, c.N)
			for i := range c.N {
				positions[i] = []int32{299, 31, 64, 0}[i%4]
				if i%4 == 3 {
					rows[i] = -1
				}
			}
			draw := func(n int) []float32 {
				x := normal(rng, n)
				for i := range x {
					x[i] = device.FromBF16(device.ToBF16(x[i]))
				}
				return x
			}
			ak, av, bk, bv := draw(slots*c.H*R), draw(slots*c.H*R), draw(slots*R*c.D), draw(slots*R*c.D)
			q := draw(c.N * c.H * c.D)
			k, v := make([]float32, slots*c.H*c.D), make([]float32, slots*c.H*c.D)
			(&ref.Expand{A: ak, B: bk, Y: k, Rows: slots, H: c.H, R: R, D: c.D, Scale: 0.5}).Run()
			(&ref.Expand{A: av, B: bv, Y: v, Rows: slots, H: c.H, R: R, D: c.D, Scale: 0.5}).Run()
			want := make([]float32, c.N*c.H*c.D)
			for i := range min(c.N, 4) {
				if rows[i] < 0 {
					continue
				}
				one := ref.Decode{B: 1, T: 1, H: c.H, G: c.H, P: c.D, Dv: c.D, Page: page, MaxPages: len(pages), Scale: 0.2,
					Window: c.window, Q: q[i*c.H*c.D:][:c.H*c.D], K: k, V: v, Pages: pages, Lengths: []int32{positions[i] + 1},
					O: want[i*c.H*c.D:][:c.H*c.D], LSE: make([]float32, c.H)}
				one.Run()
			}
			for i := 4; i < c.N; i++ { // others have the queries of the first
				copy(q[i*c.H*c.D:][:c.H*c.D], q[i%4*c.H*c.D:])
				copy(want[i*c.H*c.D:][:c.H*c.D], want[i%4*c.H*c.D:])
			}
			read := make([]bool, slots)
			for i := range 4 {
				for s := max(0, ref.FirstKey(int(positions[i]), c.window)); rows[i] == 0 && s <= int(positions[i]); s++ {
					read[int(pages[s/page])*page+s%page] = true
				}
			}
			for s := range slots {
				for _, x := range []struct {
					of []float32
					n  int
				}{{ak, c.H * R}, {av, c.H * R}, {bk, R * c.D}, {bv, R * c.D}} {
					for i := range x.n {
						if !read[s] {
							x.of[s*x.n+i] = float32(math.NaN())
						}
					}
				}
			}
			f := DecodeFactors{N: c.N, H: c.H, R: R, D: c.D, Page: page, MaxPages: len(pages), Window: c.window, Scale: 0.2,
				Q: r.in(device.BF16, q), BK: r.in(device.BF16, bk), BV: r.in(device.BF16, bv), AK: r.in(device.BF16, ak),
				AV: r.in(device.BF16, av), O: r.out(device.BF16, c.N*c.H*c.D), Positions: r.tokens(positions),
				Rows: r.tokens(rows), Pages: r.tokens(pages)}
			if !f.paired(r.s) {
				t.Skip("for Hopper")
			}
			r.check(f.Launch, result{"o", f.O, want, nil, 0})
		})
	}
}

// BenchmarkDecodeFactors times 128 requests of 8,192 tokens, also with the heads of the paper, 64 of as many and
// one of 65,536.
func BenchmarkDecodeFactors(b *testing.B) {
	const page = 64
	for _, c := range []struct{ N, S, H, D int }{{128, 8192, 64, 128}, {128, 8192, 47, 64}, {128, 8192, 78, 64},
		{64, 8192, 64, 128}, {1, 65536, 64, 128}} {
		b.Run(fmt.Sprint(c), func(b *testing.B) {
			r, each := newRig(b), c.S/page
			pages, positions, rows := make([]int32, c.N*each), make([]int32, c.N), make([]int32, c.N)
			for i, at := range rand.New(rand.NewPCG(1, 1)).Perm(len(pages)) {
				pages[i] = int32(at)
			}
			for i := range c.N {
				positions[i], rows[i] = int32(c.S-1), int32(i)
			}
			noise := func(n int) device.Buffer { return r.random(device.BF16, n, 1) }
			heads, columns := c.N*c.S*c.H*2, c.N*c.S*c.D*2
			f := DecodeFactors{N: c.N, H: c.H, R: 2, D: c.D, Page: page, MaxPages: each, Scale: 0.1, Q: noise(c.N * c.H * c.D),
				BK: noise(columns), BV: noise(columns), AK: noise(heads), AV: noise(heads), O: r.out(device.BF16, c.N*c.H*c.D),
				Positions: r.tokens(positions), Rows: r.tokens(rows), Pages: r.tokens(pages)}
			for range b.N {
				r.speed(b, float64(4*(heads+columns)), 0, f.Launch)
			}
		})
	}
}
