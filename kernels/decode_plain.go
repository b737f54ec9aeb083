//go:build gpu

package kernels

import (
	"fmt"
	"math/bits"

	"headroom/internal/device"
)

// A DecodePlain is attention of N new tokens to a paged cache, for any dims and in float32 too: what Decode does not take.
// Q [N,H,P+R]; K [slots,G,KDim] and V [slots,G,VDim], whose first P and Dv columns count; KRope [slots,R]; O [N,H,Dv].
// Token i sees positions 0 to Positions[i] of row Rows[i] of Pages [_, MaxPages]; one with row -1 gets zeros.
type DecodePlain struct {
	N, H, G, P, R, Dv, KDim, VDim, Page, MaxPages int
	Scale                                         float32
	Q, K, V, KRope, O                             device.Buffer
	Positions, Rows, Pages                        device.Buffer
}

type plainArgs struct {
	q, k, v, kRope, o, positions, rows, pages       device.Ptr
	h, g, p, r, dv, kDim, vDim, maxPages, pageShift int32
	scale                                           float32
}

var plainNames = both("decode_plain")

// Launch puts the kernel on the stream.
func (k *DecodePlain) Launch(s *device.Stream) {
	t := k.Q.Type
	if k.P+k.R > 18*32 || k.Dv > 16*32 {
		s.Fail(fmt.Errorf("kernels: decode plain: keys of %d columns and values of %d, at most %d and %d", k.P+k.R, k.Dv, 18*32, 16*32))
		return
	}
	if k.N > 0 && fits(s, "decode plain", want{"Q", k.Q, k.N * k.H * (k.P + k.R), t}, want{"K", k.K, k.G * k.KDim, t}, want{"V", k.V, k.G * k.VDim, t},
		want{"O", k.O, k.N * k.H * k.Dv, t}, want{"Positions", k.Positions, k.N, device.I32}, want{"Rows", k.Rows, k.N, device.I32}) {
		device.Launch(s, plainNames[t], device.Grid{X: k.N, Y: k.H, Block: 128}, &plainArgs{
			k.Q.Ptr, k.K.Ptr, k.V.Ptr, k.KRope.Ptr, k.O.Ptr, k.Positions.Ptr, k.Rows.Ptr, k.Pages.Ptr,
			int32(k.H), int32(k.G), int32(k.P), int32(k.R), int32(k.Dv), int32(k.KDim), int32(k.VDim), int32(k.MaxPages), int32(bits.TrailingZeros(uint(k.Page))), k.Scale,
		})
	}
}

// A DecodeGather puts the first S tokens of B requests side by side: X [slots, Width], Y [B, S, Width], Pages [B, MaxPages].
type DecodeGather struct {
	X, Y, Pages                 device.Buffer
	B, S, Width, Page, MaxPages int
}

type decodeGatherArgs struct {
	x, y, pages                   device.Ptr
	s, width, maxPages, pageShift int32
}

// Launch puts the kernel on the stream.
func (k *DecodeGather) Launch(s *device.Stream) {
	words := k.Width * k.X.Type.Size() / 4
	if k.Width*k.X.Type.Size()%4 != 0 {
		s.Fail(fmt.Errorf("kernels: decode gather: rows of whole words: %d of %v", k.Width, k.X.Type))
		return
	}
	if k.B*k.S > 0 && fits(s, "decode gather", want{"Y", k.Y, k.B * k.S * k.Width, k.X.Type}, want{"Pages", k.Pages, k.B * k.MaxPages, device.I32}) {
		device.Launch(s, "decode_gather", device.Grid{X: k.S, Y: k.B, Block: 128}, &decodeGatherArgs{
			k.X.Ptr, k.Y.Ptr, k.Pages.Ptr, int32(k.S), int32(words), int32(k.MaxPages), int32(bits.TrailingZeros(uint(k.Page))),
		})
	}
}
