//go:build gpu

package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"headroom/internal/device"
	"headroom/kernels/ref"
)

// TestDecodeWindow holds the plain kernel in a window against the reference, for keys that are rotated and that are
// not. Pages behind the window have no number that is one.
func TestDecodeWindow(t *testing.T) {
	const page, length, H, G, D = 64, 250, 6, 2, 64
	rotary := ref.Rotary{Theta: 500}
	for _, typ := range types {
		for _, turn := range []int{0, 32} {
			for _, window := range []int{1, 64, 100, 249, 400} {
				t.Run(fmt.Sprintf("%v turn %d window %d", typ, turn, window), func(t *testing.T) {
					r, rng := newRig(t), rand.New(rand.NewPCG(6, uint64(window)))
					pages := []int32{4, 0, 2, 5}
					for i := range ref.FirstKey(length-1, window) / page {
						pages[i] = 1 << 20
					}
					keys, values, q := normal(rng, 6*page*G*D), normal(rng, 6*page*G*D), normal(rng, H*D)
					want := &ref.Decode{B: 1, T: 1, H: H, G: G, P: D, Dv: D, Page: page, MaxPages: 4, Scale: 0.2, Turn: turn,
						Window: window, Rotary: rotary, Q: q, K: keys, V: values, Pages: pages, Lengths: []int32{length},
						O: make([]float32, H*D), LSE: make([]float32, H)}
					bk, bv, bq := r.in(typ, keys), r.in(typ, values), r.in(typ, q)
					want.Run()
					k := DecodePlain{N: 1, H: H, G: G, P: D, Dv: D, KDim: D, VDim: D, Page: page, MaxPages: 4, Scale: 0.2,
						Turn: turn, Window: window, Q: bq, K: bk, V: bv, O: r.out(typ, H*D),
						Positions: r.tokens([]int32{length - 1}), Rows: r.tokens([]int32{0}), Pages: r.tokens(pages)}
					if turn > 0 {
						k.Table = r.in(device.F32, RopeTable(length, turn, rotary))
					}
					r.check(k.Launch, result{"o", k.O, want.O, nil, 0})
				})
			}
		}
	}
}
