//go:build gpu

package kernels

import (
	"fmt"
	"math/bits"

	"headroom/internal/device"
)

// A DecodePlain is attention of N new tokens to a paged cache, for any dims and in float32 too: what Decode does not
// take. Q [N,H,P+R]; K [slots,G,KDim] and V [slots,G,VDim], whose first P and Dv columns count; KRope [slots,R]; O
// [N,H,Dv]. Token i sees positions 0 to Positions[i] of row Rows[i] of Pages [_, MaxPages]; one with row -1 gets
// zeros. With Turn the last Turn of the P columns of a key are rotated by its position as they are read; Table holds
// RopeTable(positions, Turn, rotary). With Window a token sees its last Window positions alone, its own with them,
// and no page of others is read. A cache in bytes has KScale and VScale, [pages, G, Page].
type DecodePlain struct {
	N, H, G, P, R, Dv, KDim, VDim, Page, MaxPages int
	Turn, Window                                  int
	Scale                                         float32
	Table                                         device.Buffer
	Q, K, V, KRope, O, KScale, VScale             device.Buffer
	Positions, Rows, Pages                        device.Buffer
}

type plainArgs struct {
	q, k, v, kRope, o, positions, rows, pages       device.Ptr
	h, g, p, r, dv, kDim, vDim, maxPages, pageShift int32
	scale                                           float32
}

type turnedArgs struct {
	plain plainArgs
	table device.Ptr
	turn  int32
}

type windowArgs struct {
	plain        plainArgs
	table        device.Ptr
	turn, window int32
}

var plainNames, turnedNames = both("decode_plain"), both("decode_turned")
var windowNames, windowTurnedNames = both("decode_window"), both("decode_window_turned")

// Launch puts the kernel on the stream.
func (k *DecodePlain) Launch(s *device.Stream) {
	t := k.Q.Type
	switch {
	case k.P+k.R > 18*32 || k.Dv > 16*32:
		s.Fail(fmt.Errorf("kernels: decode plain: keys of %d columns and values of %d, at most %d and %d",
			k.P+k.R, k.Dv, 18*32, 16*32))
		return
	case k.G < 1 || k.H%k.G != 0:
		s.Fail(fmt.Errorf("kernels: decode plain: %d kv heads do not divide %d query heads", k.G, k.H))
		return
	case k.Turn < 0 || k.Turn > k.P || k.Turn%2 != 0:
		s.Fail(fmt.Errorf("kernels: decode plain: columns to rotate must be even and at most %d: %d", k.P, k.Turn))
		return
	case k.Window < 0:
		s.Fail(fmt.Errorf("kernels: decode plain: a window of %d", k.Window))
		return
	case !powerOfTwo(k.Page):
		s.Fail(fmt.Errorf("kernels: decode plain: page size: a power of two: %d", k.Page))
		return
	}
	if k.K.Type == device.U8 {
		k.launchFP8(s)
		return
	}
	wants := []want{
		{"Q", k.Q, k.N * k.H * (k.P + k.R), t}, {"K", k.K, k.Page * k.G * k.KDim, t}, {"V", k.V, k.Page * k.G * k.VDim, t},
		{"O", k.O, k.N * k.H * k.Dv, t}, {"Positions", k.Positions, k.N, device.I32}, {"Rows", k.Rows, k.N, device.I32},
		{"Pages", k.Pages, k.MaxPages, device.I32},
	}
	if k.R > 0 {
		wants = append(wants, want{"KRope", k.KRope, k.Page * k.R, t})
	}
	if k.Turn > 0 {
		wants = append(wants, want{"Table", k.Table, k.Turn, device.F32})
	}
	if k.N > 0 && fits(s, "decode plain", wants...) {
		args, grid := plainArgs{
			k.Q.Ptr, k.K.Ptr, k.V.Ptr, k.KRope.Ptr, k.O.Ptr, k.Positions.Ptr, k.Rows.Ptr, k.Pages.Ptr,
			int32(k.H), int32(k.G), int32(k.P), int32(k.R), int32(k.Dv), int32(k.KDim), int32(k.VDim), int32(k.MaxPages),
			int32(bits.TrailingZeros(uint(k.Page))), k.Scale,
		}, device.Grid{X: k.N, Y: k.H, Block: 128}
		if k.Window > 0 {
			name := windowNames[t]
			if k.Turn > 0 {
				name = windowTurnedNames[t]
			}
			device.Launch(s, name, grid, &windowArgs{args, k.Table.Ptr, int32(k.Turn), int32(k.Window)})
			return
		}
		if k.Turn > 0 {
			device.Launch(s, turnedNames[t], grid, &turnedArgs{args, k.Table.Ptr, int32(k.Turn)})
			return
		}
		device.Launch(s, plainNames[t], grid, &args)
	}
}

// A DecodeGather puts the first S tokens of B requests side by side: X [slots, Width], Y [B, S, Width], Pages [B,
// MaxPages].
type DecodeGather struct {
	X, Y, Pages                 device.Buffer
	B, S, Width, Page, MaxPages int
}

type gatherArgs struct {
	x, y, pages                   device.Ptr
	s, width, maxPages, pageShift int32
}

// Launch puts the kernel on the stream.
func (k *DecodeGather) Launch(s *device.Stream) {
	words := k.Width * k.X.Type.Size() / 4
	switch {
	case k.Width*k.X.Type.Size()%4 != 0:
		s.Fail(fmt.Errorf("kernels: decode gather: rows of whole words: %d of %v", k.Width, k.X.Type))
		return
	case !powerOfTwo(k.Page) || k.S > k.Page*k.MaxPages:
		s.Fail(fmt.Errorf("kernels: decode gather: pages of a power of two tokens, %d of them for %d tokens: %d",
			k.MaxPages, k.S, k.Page))
		return
	}
	if k.B*k.S > 0 && fits(s, "decode gather", want{"Y", k.Y, k.B * k.S * k.Width, k.X.Type},
		want{"Pages", k.Pages, k.B * k.MaxPages, device.I32}) {
		device.Launch(s, "decode_gather", device.Grid{X: k.S, Y: k.B, Block: 128}, &gatherArgs{
			k.X.Ptr, k.Y.Ptr, k.Pages.Ptr, int32(k.S), int32(words), int32(k.MaxPages), int32(bits.TrailingZeros(uint(k.Page))),
		})
	}
}
