//go:build gpu

package kernels

import (
	"fmt"
	"math"
	"math/bits"

	"headroom/internal/device"
)

// A Decode is attention of new tokens to a paged cache, as kernels/ref has it, in bf16 with float32 sums: Q
// [B,T,H,P+R]; K and V [slots,G,Dv], V absent where the value is K's; KRope [slots,R]; Pages [B,MaxPages] and Lengths
// [B] int32; O [B,T,H,Dv]; LSE [B,T,H] float32. One launch does it all: blocks cut the batch into equal ranges and
// merge what they cut. Work is WorkBytes of memory, zero before its first use, that no two kernels may use at the same
// time.
type Decode struct {
	DecodeShape
	Scale                  float32
	Q, K, V, KRope, O, LSE device.Buffer
	KScale, VScale         device.Buffer // of an 8-bit cache, [pages, G, Page], with K and V in bytes
	Pages, Lengths         device.Buffer
	Work                   device.Buffer
}

// decodeArgs is DecodeArgs in decode_plan.cuh.
type decodeArgs struct {
	q, k, v, kRope, pages, lengths, out, lse, partial, partialLSE, arrived device.Ptr
	b, t, h, g, p, r, maxPages, pageShift                                  int32
	parts, tiles, heads, warpRows, stages, unitShift, pieces, fixed        int32
	scale                                                                  float32
}

// decodeFP8Args is DecodeFP8Args in fp8.cuh.
type decodeFP8Args struct {
	decode         decodeArgs
	kScale, vScale device.Ptr
}

func (d DecodeShape) on(dev *device.Device) (decodeTiling, error) {
	return d.tiling(dev.SMs, dev.MaxShare, dev.Compute == 90)
}

// arrivals is the part of Work that counts finished pieces. It has the same place for all shapes, since it must be zero
// between launches.
const arrivals = 1 << 16

// WorkBytes is the size of Work on a device.
func (d DecodeShape) WorkBytes(dev *device.Device) (int, error) {
	if err := d.Check(); err != nil {
		return 0, err
	}
	t, err := d.on(dev)
	return arrivals*4 + t.pieces*d.T*d.H*(d.Dv+1)*4, err
}

// Launch puts the kernel on the stream.
func (k *Decode) Launch(s *device.Stream) {
	if err := k.Check(); err != nil {
		s.Fail(err)
		return
	}
	t, err := k.on(s.Device())
	if err != nil {
		s.Fail(err)
		return
	}
	if k.B*t.tiles > arrivals {
		s.Fail(fmt.Errorf("kernels: decode: %d requests of %d tiles, at most %d in all", k.B, t.tiles, arrivals))
		return
	}
	slots, queries := k.K.N/(k.G*k.Dv)/k.Page*k.Page, k.B*k.T*k.H
	rows := t.pieces * k.T * k.H
	cache := device.BF16
	if k.FP8 {
		cache = device.U8
	}
	wants := []want{
		{"Q", k.Q, queries * (k.P + k.R), device.BF16}, {"K", k.K, k.Page * k.G * k.Dv, cache},
		{"O", k.O, queries * k.Dv, device.BF16},
		{"LSE", k.LSE, queries, device.F32}, {"Pages", k.Pages, k.B * k.MaxPages, device.I32},
		{"Lengths", k.Lengths, k.B, device.I32},
		{"Work", k.Work, arrivals*4 + rows*(k.Dv+1)*4, device.U8},
	}
	if k.Cache == KV {
		wants = append(wants, want{"V", k.V, slots * k.G * k.Dv, cache})
	} else {
		wants = append(wants, want{"KRope", k.KRope, slots * k.R, device.BF16})
	}
	if k.FP8 {
		wants = append(wants, want{"KScale", k.KScale, slots * k.G, device.U8})
		if k.Cache == KV {
			wants = append(wants, want{"VScale", k.VScale, slots * k.G, device.U8})
		}
	}
	if !fits(s, "decode", wants...) {
		return
	}
	for _, w := range wants {
		if w.buf.Ptr%16 != 0 && w.name != "Lengths" {
			s.Fail(fmt.Errorf("kernels: decode: %s must begin on 16 bytes: %#x", w.name, w.buf.Ptr))
			return
		}
	}
	unit := 64
	if k.Piece > 0 {
		unit = k.Piece
	}
	partial := k.Work.Ptr + arrivals*4
	lse := partial + device.Ptr(rows*k.Dv*4)
	grid := device.Grid{X: t.parts * t.tiles, Block: t.threads, Shared: t.shared, Overlap: true}
	args := decodeArgs{
		k.Q.Ptr, k.K.Ptr, k.V.Ptr, k.KRope.Ptr, k.Pages.Ptr, k.Lengths.Ptr, k.O.Ptr, k.LSE.Ptr, partial, lse, k.Work.Ptr,
		int32(k.B), int32(k.T), int32(k.H), int32(k.G), int32(k.P), int32(k.R), int32(k.MaxPages),
		int32(bits.TrailingZeros(uint(k.Page))),
		int32(t.parts), int32(t.tiles), int32(t.heads), int32(t.rows), int32(t.stages),
		int32(bits.TrailingZeros(uint(unit))),
		int32(t.pieces), flag(k.Piece > 0),
		k.Scale * math.Log2E,
	}
	if k.FP8 {
		device.Launch(s, t.kernel, grid, &decodeFP8Args{args, k.KScale.Ptr, k.VScale.Ptr})
		return
	}
	device.Launch(s, t.kernel, grid, &args)
}

// checkArgs is CheckArgs in decode_append.cu.
type checkArgs struct {
	pages, lengths, fault        device.Ptr
	b, maxPages, pageShift, pool int32
}

// CheckPages reads the page table as far as the lengths reach and reports the last request with a length that its pages
// cannot hold or a page number outside the pool. Fault is one int32. It waits for the stream: a mode for finding bugs.
func (k *Decode) CheckPages(s *device.Stream, fault device.Buffer) error {
	if err := k.Check(); err != nil {
		return err
	}
	if fits(s, "decode check", want{"Pages", k.Pages, k.B * k.MaxPages, device.I32},
		want{"Lengths", k.Lengths, k.B, device.I32}, want{"fault", fault, 1, device.I32}) {
		pool := k.K.N / (k.G * k.Dv) / k.Page
		s.Fill(fault, 0)
		device.Launch(s, "decode_check", device.Grid{X: k.B, Block: 128}, &checkArgs{
			k.Pages.Ptr, k.Lengths.Ptr, fault.Ptr, int32(k.B), int32(k.MaxPages), int32(bits.TrailingZeros(uint(k.Page))),
			int32(pool),
		})
	}
	bad := make([]int32, 1)
	device.Download(s, bad, fault)
	if err := s.Sync(); err != nil {
		return err
	}
	if bad[0] > 0 {
		return fmt.Errorf("kernels: decode: request %d: its length is outside its %d pages of %d, or a page outside the pool",
			bad[0]-1, k.MaxPages, k.Page)
	}
	return nil
}

// An Append writes new tokens into the pages, as kernels/ref has it: K and V [B,T,G,D], KRope [B,T,R], Norm [G,D]; all
// bf16, with V, KRope and Norm where the kind has them. Table is RopeTable(positions, D or R, rotary); Rotate rotates
// K.
type Append struct {
	B, T, G, D, R            int
	Page, MaxPages           int
	Rotate                   bool
	Eps                      float32
	K, V, KRope, Norm        device.Buffer
	KCache, VCache, RopeKeys device.Buffer
	Table, Pages, Lengths    device.Buffer
}

// appendArgs is AppendArgs in decode_append.cu.
type appendArgs struct {
	k, v, kRope, norm, table, kCache, vCache, ropeCache, pages, lengths device.Ptr
	b, t, g, d, r, maxPages, pageShift, rotate                          int32
	eps                                                                 float32
}

// Launch puts the kernel on the stream.
func (k *Append) Launch(s *device.Stream) {
	n, rotated := k.B*k.T, k.R
	if k.Rotate {
		rotated = k.D
	}
	positions := k.Page * k.MaxPages
	wants := []want{{"K", k.K, n * k.G * k.D, device.BF16}, {"KCache", k.KCache, k.Page * k.G * k.D, device.BF16},
		{"Pages", k.Pages, k.B * k.MaxPages, device.I32}, {"Lengths", k.Lengths, k.B, device.I32}}
	slots := 0
	if k.G*k.D > 0 {
		slots = k.KCache.N / (k.G * k.D)
	}
	if !k.V.Nil() {
		wants = append(wants, want{"V", k.V, n * k.G * k.D, device.BF16},
			want{"VCache", k.VCache, slots * k.G * k.D, device.BF16})
	}
	if !k.Norm.Nil() {
		wants = append(wants, want{"Norm", k.Norm, k.G * k.D, device.BF16})
	}
	rows := k.G
	if k.R > 0 {
		rows++
		wants = append(wants, want{"KRope", k.KRope, n * k.R, device.BF16},
			want{"RopeKeys", k.RopeKeys, slots * k.R, device.BF16})
	}
	if rotated > 0 {
		wants = append(wants, want{"Table", k.Table, positions * rotated, device.F32})
	}
	switch {
	case k.D%8 != 0 || k.R%2 != 0 || k.D < 8:
		s.Fail(fmt.Errorf("kernels: append: D a multiple of 8, R even: %d, %d", k.D, k.R))
	case k.Rotate && (k.R > 0 || !k.Norm.Nil()):
		s.Fail(fmt.Errorf("kernels: append: rotated keys have neither a rope key nor a norm"))
	case !powerOfTwo(k.Page) || k.Page > decodePage:
		s.Fail(fmt.Errorf("kernels: append: page size: a power of two from 1 to %d: %d", decodePage, k.Page))
	case fits(s, "append", wants...) && n > 0:
		device.Launch(s, "decode_append", device.Grid{X: ceil(n*rows, 4), Block: 128}, &appendArgs{
			k.K.Ptr, k.V.Ptr, k.KRope.Ptr, k.Norm.Ptr, k.Table.Ptr, k.KCache.Ptr, k.VCache.Ptr, k.RopeKeys.Ptr, k.Pages.Ptr,
			k.Lengths.Ptr,
			int32(k.B), int32(k.T), int32(k.G), int32(k.D), int32(k.R), int32(k.MaxPages),
			int32(bits.TrailingZeros(uint(k.Page))), flag(k.Rotate), k.Eps,
		})
	}
}
