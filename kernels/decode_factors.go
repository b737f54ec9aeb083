//go:build gpu

package kernels

import (
	"fmt"
	"math/bits"

	"headroom/internal/device"
)

// A DecodeFactors is attention of N new tokens to a paged cache of factors: the key of head h of a token is
// 1/R · AK[h]·BK, its value 1/R · AV[h]·BV. Q, O [N,H,D]; BK, BV [slots,R,D]; AK, AV [slots,H,R]. D is 256 at most.
// Positions, Rows, Pages and Window are those of DecodePlain. Hopper has a kernel of its own for two factors, heads of
// 64 or 128 columns in bf16, up to 128 heads and pages of 32 tokens or more.
type DecodeFactors struct {
	N, H, R, D, Page, MaxPages, Window int
	Scale                              float32
	Q, BK, BV, AK, AV, O               device.Buffer
	Positions, Rows, Pages             device.Buffer
}

type factorsArgs struct {
	q, bk, bv, ak, av, o, positions, rows, pages device.Ptr
	h, r, d, maxPages, pageShift, window         int32
	scale                                        float32
}

// factorsPairArgs is FactorsPairArgs in decode_factors.cu.
type factorsPairArgs struct {
	q, bk, bv, ak, av, o, positions, rows, pages device.Ptr
	h, maxPages, pageShift, window, blocks       int32
	scale                                        float32
}

var factorsNames = both("decode_factors")

// paired says that the kernel of two factors takes this.
func (k *DecodeFactors) paired(s *device.Stream) bool {
	return k.R == 2 && (k.D == 64 || k.D == 128) && k.H <= 128 && k.Page >= 32 &&
		anyForm(k.Q.Type, 8, k.BK, k.BV, k.AK, k.AV, k.O, k.Q) == 0 && k.Q.Type == device.BF16 &&
		s.Device().Compute == 90
}

// blocks is how many share a token's cache: as many as fill the multiprocessors twice, up to eight, which any device
// runs as a cluster.
func (k *DecodeFactors) blocks(s *device.Stream) (n int) {
	for n = 1; n < 8 && 2*n*k.N <= 2*s.Device().SMs; n *= 2 {
	}
	return n
}

// pairedShared is the shared memory of Factors in decode_factors.cu: two stages of 32 tokens.
func (k *DecodeFactors) pairedShared() int { return 2 * 2 * 32 * (2*2*k.D + ceil(4*k.H, 16)*16 + 32) }

// Launch puts the kernel on the stream.
func (k *DecodeFactors) Launch(s *device.Stream) {
	t := k.Q.Type
	switch {
	case k.D > 256:
		s.Fail(fmt.Errorf("kernels: decode factors: heads of %d columns, at most 256", k.D))
		return
	case k.R < 1 || k.Window < 0:
		s.Fail(fmt.Errorf("kernels: decode factors: %d factors in a window of %d", k.R, k.Window))
		return
	case !powerOfTwo(k.Page):
		s.Fail(fmt.Errorf("kernels: decode factors: page size: a power of two: %d", k.Page))
		return
	}
	if k.N > 0 && fits(s, "decode factors", want{"Q", k.Q, k.N * k.H * k.D, t}, want{"BK", k.BK, k.Page * k.R * k.D, t},
		want{"BV", k.BV, k.Page * k.R * k.D, t}, want{"AK", k.AK, k.Page * k.H * k.R, t},
		want{"AV", k.AV, k.Page * k.H * k.R, t}, want{"O", k.O, k.N * k.H * k.D, t},
		want{"Positions", k.Positions, k.N, device.I32}, want{"Rows", k.Rows, k.N, device.I32},
		want{"Pages", k.Pages, k.MaxPages, device.I32}) {
		if k.paired(s) {
			name, n := "decode_factors_64", k.blocks(s)
			if k.D == 128 {
				name = "decode_factors_128"
			}
			device.Launch(s, name, device.Grid{X: k.N * n, Block: 32 * ceil(k.H, 16), Shared: k.pairedShared(), Cluster: n},
				&factorsPairArgs{
					k.Q.Ptr, k.BK.Ptr, k.BV.Ptr, k.AK.Ptr, k.AV.Ptr, k.O.Ptr, k.Positions.Ptr, k.Rows.Ptr, k.Pages.Ptr,
					int32(k.H), int32(k.MaxPages), int32(bits.TrailingZeros(uint(k.Page))), int32(k.Window), int32(n), k.Scale,
				})
			return
		}
		device.Launch(s, factorsNames[t], device.Grid{X: k.N, Y: k.H, Block: 128}, &factorsArgs{
			k.Q.Ptr, k.BK.Ptr, k.BV.Ptr, k.AK.Ptr, k.AV.Ptr, k.O.Ptr, k.Positions.Ptr, k.Rows.Ptr, k.Pages.Ptr,
			int32(k.H), int32(k.R), int32(k.D), int32(k.MaxPages), int32(bits.TrailingZeros(uint(k.Page))), int32(k.Window),
			k.Scale,
		})
	}
}
