package host

import (
	"bytes"
	"math"
	"slices"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/device"
	"headroom/kernels/ref"
)

// A slot is one tensor of a layer's cache: for each token of a page, heads vectors of dim elements.
type slot struct {
	heads, dim, tokens int
	elements
}

// elements are the vectors of a slot as a type of cache keeps them: [pages, PageTokens, heads, dim]. All start as NaN,
// so that a read of what was never written is seen.
type elements interface {
	put(place int, x []float32)  // writes tokens that lie side by side from a place on
	get(to []float32, place int) // reads them
	bytes() int64                // of all
}

// newSlot is what a type of cache has for a slot.
func newSlot(s attention.Slot, pages int, c attention.CacheType) slot {
	to := slot{heads: s.Heads, dim: s.Dim, tokens: pages * decode.PageTokens}
	vectors, width := to.tokens*s.Heads, s.Heads*s.Dim
	n := to.tokens * width
	switch c.Of(s) {
	case attention.FP8:
		fresh := func(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }
		to.elements = &scaled{s.Heads, s.Dim, fresh(n), fresh(vectors)}
	case attention.BF16:
		to.elements = halves{width, slices.Repeat([]uint16{0xffff}, n)}
	default:
		to.elements = words{width, slices.Repeat([]float32{float32(math.NaN())}, n)}
	}
	return to
}

// words are float32, with the width of a token.
type words struct {
	width int
	data  []float32
}

func (w words) put(place int, x []float32)  { copy(w.data[place*w.width:], x) }
func (w words) get(to []float32, place int) { copy(to, w.data[place*w.width:]) }
func (w words) bytes() int64                { return 4 * int64(len(w.data)) }

// halves are bf16.
type halves struct {
	width int
	data  []uint16
}

func (h halves) put(place int, x []float32) {
	to := h.data[place*h.width:][:len(x)]
	for i, v := range x {
		to[i] = device.ToBF16(v)
	}
}

func (h halves) get(to []float32, place int) {
	from := h.data[place*h.width:][:len(to)]
	for i, v := range from {
		to[i] = device.FromBF16(v)
	}
}

func (h halves) bytes() int64 { return 2 * int64(len(h.data)) }

// scaled are vectors of E4M3. Bytes lie as elements do, [pages, PageTokens, heads, dim]. The scales of a head's tokens
// in a page lie side by side, [pages, heads, PageTokens], as a kernel wants them: they multiply columns of its scores.
type scaled struct {
	heads, dim int
	codes      []ref.E4M3
	scales     []ref.E8M0
}

// scale is where that of a head's vector of a token lies.
func (s *scaled) scale(place, head int) *ref.E8M0 {
	page, at := place/decode.PageTokens, place%decode.PageTokens
	return &s.scales[(page*s.heads+head)*decode.PageTokens+at]
}

func (s *scaled) put(place int, x []float32) {
	for i := range len(x) / s.dim {
		token, head := place+i/s.heads, i%s.heads
		*s.scale(token, head) = ref.QuantizeE4M3(s.codes[(token*s.heads+head)*s.dim:][:s.dim], x[i*s.dim:][:s.dim])
	}
}

func (s *scaled) get(to []float32, place int) {
	for i := range len(to) / s.dim {
		token, head := place+i/s.heads, i%s.heads
		ref.DequantizeE4M3(to[i*s.dim:][:s.dim], s.codes[(token*s.heads+head)*s.dim:][:s.dim], *s.scale(token, head))
	}
}

func (s *scaled) bytes() int64 { return int64(len(s.codes) + len(s.scales)) }

// fill repeats a block all over a slot.
func (s slot) fill(block []float32) {
	width := s.heads * s.dim
	ref.Spans(s.tokens, func(lo, hi int) {
		token := make([]float32, width)
		for place := lo; place < hi; place++ {
			for i := range token {
				token[i] = block[(place*width+i)%len(block)]
			}
			s.put(place, token)
		}
	})
}
