//go:build gpu

package kernels

import (
	"fmt"
	"math/bits"

	"headroom/internal/device"
)

// A DecodeEntry is what new tokens leave in one slot of an 8-bit cache: Heads of Dim columns of each token, in X with
// XRow elements from token to token and XHead from head to head, as bytes in Y [slots, Heads, Dim] with Scales [pages,
// Heads, Page]. The last Rotate columns are rotated by Table, which is RopeTable(positions, Rotate, rotary); the others
// are normed where Norm [Heads, Dim] is there.
type DecodeEntry struct {
	X, Y, Scales, Norm, Table       device.Buffer
	XRow, XHead, Heads, Dim, Rotate int
}

// A DecodePlaceFP8 quantises one or two entries of N new tokens in bf16, by the rule of ref.QuantizeE4M3. Token i has
// position Positions[i] in the request whose pages are row Rows[i] of Pages [_, MaxPages]; one with row -1 is left out.
type DecodePlaceFP8 struct {
	Entries                []DecodeEntry
	Positions, Rows, Pages device.Buffer
	N, Page, MaxPages      int
	Eps                    float32
}

type entryArgs struct {
	x, norm, y, scales, table device.Ptr
	xRow                      int64
	xHead, heads, dim, rotate int32
}

// FP8Entries is the most that one launch of DecodePlaceFP8 places.
const FP8Entries = len(placeFP8Args{}.entry)

type placeFP8Args struct {
	entry                  [2]entryArgs
	positions, rows, pages device.Ptr
	n, maxPages, pageShift int32
	eps                    float32
}

// Launch puts the kernel on the stream.
func (k *DecodePlaceFP8) Launch(s *device.Stream) {
	args := placeFP8Args{
		positions: k.Positions.Ptr, rows: k.Rows.Ptr, pages: k.Pages.Ptr, n: int32(k.N), maxPages: int32(k.MaxPages),
		pageShift: int32(bits.TrailingZeros(uint(k.Page))), eps: k.Eps,
	}
	if len(k.Entries) < 1 || len(k.Entries) > FP8Entries || !powerOfTwo(k.Page) {
		s.Fail(fmt.Errorf("kernels: decode place fp8: 1 to %d entries, pages of a power of two: %d, %d", FP8Entries,
			len(k.Entries), k.Page))
		return
	}
	wants := []want{{"Positions", k.Positions, k.N, device.I32}, {"Rows", k.Rows, k.N, device.I32}}
	heads := 0
	for i, e := range k.Entries {
		wants = append(wants, want{"X", e.X, (k.N-1)*e.XRow + (e.Heads-1)*e.XHead + e.Dim, device.BF16},
			want{"Y", e.Y, k.Page * e.Heads * e.Dim, device.U8}, want{"Scales", e.Scales, k.Page * e.Heads, device.U8})
		if !e.Norm.Nil() {
			wants = append(wants, want{"Norm", e.Norm, e.Heads * e.Dim, device.BF16})
		}
		args.entry[i] = entryArgs{e.X.Ptr, e.Norm.Ptr, e.Y.Ptr, e.Scales.Ptr, e.Table.Ptr, int64(e.XRow), int32(e.XHead),
			int32(e.Heads), int32(e.Dim), int32(e.Rotate)}
		heads = max(heads, e.Heads)
	}
	if k.N > 0 && fits(s, "decode place fp8", wants...) {
		device.Launch(s, "decode_place_fp8",
			device.Grid{X: ceil(k.N*heads, 4), Y: len(k.Entries), Block: 128, Overlap: true}, &args)
	}
}

// A DecodeGatherFP8 puts the first S tokens of B requests side by side, in bf16: X [slots, Heads, Dim] in bytes, Scales
// [pages, Heads, Page], Y [B, S, Heads, Dim], Pages [B, MaxPages].
type DecodeGatherFP8 struct {
	X, Scales, Y, Pages              device.Buffer
	B, S, Heads, Dim, Page, MaxPages int
}

type gatherFP8Args struct {
	x, scales, y, pages                device.Ptr
	s, heads, dim, maxPages, pageShift int32
}

// Launch puts the kernel on the stream.
func (k *DecodeGatherFP8) Launch(s *device.Stream) {
	switch {
	case k.Dim%2 != 0:
		s.Fail(fmt.Errorf("kernels: decode gather fp8: heads of an even number of columns: %d", k.Dim))
		return
	case !powerOfTwo(k.Page) || k.S > k.Page*k.MaxPages:
		s.Fail(fmt.Errorf("kernels: decode gather fp8: pages of a power of two tokens, %d of them for %d tokens: %d",
			k.MaxPages, k.S, k.Page))
		return
	}
	if k.B*k.S > 0 && fits(s, "decode gather fp8", want{"X", k.X, k.Page * k.Heads * k.Dim, device.U8},
		want{"Scales", k.Scales, k.Page * k.Heads, device.U8}, want{"Y", k.Y, k.B * k.S * k.Heads * k.Dim, device.BF16},
		want{"Pages", k.Pages, k.B * k.MaxPages, device.I32}) {
		device.Launch(s, "decode_gather_fp8", device.Grid{X: k.S, Y: k.B, Block: 128}, &gatherFP8Args{
			k.X.Ptr, k.Scales.Ptr, k.Y.Ptr, k.Pages.Ptr, int32(k.S), int32(k.Heads), int32(k.Dim), int32(k.MaxPages),
			int32(bits.TrailingZeros(uint(k.Page))),
		})
	}
}

type plainFP8Args struct {
	q, k, v, kScale, vScale, kRope, o, positions, rows, pages, table device.Ptr
	h, g, p, r, dv, kDim, vDim, maxPages, pageShift, turn, window    int32
	scale                                                            float32
}

// launchFP8 is Launch on an 8-bit cache.
func (k *DecodePlain) launchFP8(s *device.Stream) {
	wants := []want{
		{"Q", k.Q, k.N * k.H * (k.P + k.R), device.BF16}, {"K", k.K, k.Page * k.G * k.KDim, device.U8},
		{"V", k.V, k.Page * k.G * k.VDim, device.U8}, {"KScale", k.KScale, k.Page * k.G, device.U8},
		{"VScale", k.VScale, k.Page * k.G, device.U8}, {"O", k.O, k.N * k.H * k.Dv, device.BF16},
		{"Positions", k.Positions, k.N, device.I32}, {"Rows", k.Rows, k.N, device.I32},
		{"Pages", k.Pages, k.MaxPages, device.I32},
	}
	if k.R > 0 {
		wants = append(wants, want{"KRope", k.KRope, k.Page * k.R, device.BF16})
	}
	if k.Turn > 0 {
		wants = append(wants, want{"Table", k.Table, k.Turn, device.F32})
	}
	if k.N > 0 && fits(s, "decode plain fp8", wants...) {
		device.Launch(s, "decode_plain_fp8", device.Grid{X: k.N, Y: k.H, Block: 128}, &plainFP8Args{
			k.Q.Ptr, k.K.Ptr, k.V.Ptr, k.KScale.Ptr, k.VScale.Ptr, k.KRope.Ptr, k.O.Ptr, k.Positions.Ptr, k.Rows.Ptr,
			k.Pages.Ptr, k.Table.Ptr, int32(k.H), int32(k.G), int32(k.P), int32(k.R), int32(k.Dv), int32(k.KDim),
			int32(k.VDim), int32(k.MaxPages), int32(bits.TrailingZeros(uint(k.Page))), int32(k.Turn), int32(k.Window), k.Scale,
		})
	}
}

// A NoiseFP8 fills an 8-bit cache with numbers near normal, of standard deviation 1: X in bytes, Scales.
type NoiseFP8 struct {
	X, Scales device.Buffer
	Seed      uint64
}

type noiseFP8Args struct {
	y, scales  device.Ptr
	n, vectors int64
	seed       uint64
}

// Launch puts the kernel on the stream.
func (k *NoiseFP8) Launch(s *device.Stream) {
	if n := max(k.X.N, k.Scales.N); n > 0 && fits(s, "noise fp8", want{"X", k.X, k.X.N, device.U8},
		want{"Scales", k.Scales, k.Scales.N, device.U8}) {
		device.Launch(s, "decode_noise_fp8", device.Grid{X: ceil(n, 256), Block: 256},
			&noiseFP8Args{k.X.Ptr, k.Scales.Ptr, int64(k.X.N), int64(k.Scales.N), k.Seed})
	}
}
