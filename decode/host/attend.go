package host

import (
	"math"

	"headroom/attention"
	"headroom/decode"
	"headroom/kernels/ref"
)

// tileTokens is how many cached tokens are gathered from their pages at a time.
const tileTokens = 512

// scratch is the memory of attend, of one row at a time: M = T·H/G queries of each of G heads, tiles of S tokens.
type scratch struct {
	q, s, o     []float32 // [G, M, E]  [G, M, S]  [G, M, Dv]
	k, v, kRope []float32 // [S, G, dim] of their slots
	top, sum    []float32 // [G, M]
	heads       []float32 // [S, H, Rank]: factors over heads
	values      []float32 // [S, H, Dv]: values made of factors
	turned      []float32 // [S, G, dim]: keys made of factors, or of an unrotated state
	turn        *rotary   // that this rotates
}

func grow(p *[]float32, n int) []float32 {
	if len(*p) < n {
		*p = make([]float32, n)
	}
	return (*p)[:n]
}

// attend runs one row's queries over what they read of its cache by an online softmax over tiles of tokens. It does
// what ref.Decode does to the same cache, by products: over 1,024 tokens steps of GQA take 0.7 and of MLA 0.45 of the
// time, and prompts much less.
func (x *scratch) attend(slots []slot, row decode.Row, a attention.CacheRead, q, out []float32) {
	G, E, S := slots[a.K].heads, a.P+a.R, row.Start+row.T
	wideK, wideV := slots[a.K].dim, slots[a.V].dim
	if a.Rank > 0 {
		G, wideK, wideV = a.H, a.P, a.Dv
	}
	own := a.H / G
	M := row.T * own
	x.pack(row, a, G, q)
	o, top, sum := grow(&x.o, G*M*a.Dv), grow(&x.top, G*M), grow(&x.sum, G*M)
	for i := range top {
		top[i], sum[i] = float32(math.Inf(-1)), 0
	}
	clear(o)
	s := grow(&x.s, G*M*tileTokens)
	first := ref.FirstKey(row.Start, a.Window) / decode.PageTokens * decode.PageTokens
	for from := first; from < S; from += tileTokens {
		n := min(tileTokens, S-from)
		k := gather(&x.k, slots[a.K], row.Pages, from, n) // [n, G, dim]
		v := k
		if a.V != a.K {
			v = gather(&x.v, slots[a.V], row.Pages, from, n)
		}
		if a.Turn > 0 {
			k = x.rotated(k, slots[a.K].heads, from, n)
		}
		if a.Rank > 0 {
			k = x.product(&x.turned, slots[a.KHeads], k, row.Pages, from, n, a.Rank)
			v = x.product(&x.values, slots[a.VHeads], v, row.Pages, from, n, a.Rank)
		}
		(&ref.Gemm{
			TransB: true, M: M, N: n, K: a.P, A: x.q, B: k, C: s, Lda: E, Ldb: G * wideK, Ldc: tileTokens,
			Batch: G, StrideA: M * E, StrideB: wideK, StrideC: M * tileTokens,
		}).Run() // [G, M, n]
		if a.R > 0 {
			kRope := gather(&x.kRope, slots[a.KRope], row.Pages, from, n) // [n, R]
			(&ref.Gemm{
				TransB: true, M: G * M, N: n, K: a.R, A: x.q[a.P:], B: kRope, C: s, Lda: E, Ldb: a.R, Ldc: tileTokens, Batch: 1,
				Accumulate: true,
			}).Run()
		}
		ref.Spans(G*M, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				at := row.Start + i%M/own
				lo, hi := max(0, ref.FirstKey(at, a.Window)-from), max(0, min(n, at+1-from))
				softmax(s[i*tileTokens:][:n], lo, hi, o[i*a.Dv:][:a.Dv], &top[i], &sum[i], float32(a.Scale))
			}
		})
		(&ref.Gemm{
			M: M, N: a.Dv, K: n, A: s, B: v, C: o, Lda: tileTokens, Ldb: G * wideV, Ldc: a.Dv, Accumulate: true,
			Batch: G, StrideA: M * tileTokens, StrideB: wideV, StrideC: M * a.Dv,
		}).Run() // [G, M, Dv]
	}
	for t := range row.T {
		for h := range a.H {
			i := h/own*M + t*own + h%own
			y := out[((row.From+t)*a.H+h)*a.Dv:][:a.Dv]
			for j, v := range o[i*a.Dv:][:a.Dv] {
				y[j] = v / sum[i]
			}
		}
	}
}

// rotated are keys of n tokens from a position on, rotated for their scores.
func (x *scratch) rotated(k []float32, heads, from, n int) []float32 {
	width := len(k) / tileTokens
	to := grow(&x.turned, len(k))
	ref.Spans(n, func(lo, hi int) {
		copy(to[lo*width:hi*width], k[lo*width:])
		for i := lo; i < hi; i++ {
			x.turn.turn(to[i*width:][:width], heads, from+i)
		}
	})
	return to
}

// product makes keys or values [n, H, dim] of n tokens of their factors over heads, in a slot, and over columns.
func (x *scratch) product(to *[]float32, s slot, columns []float32, pages []int32, from, n, rank int) []float32 {
	dim := len(columns) / (tileTokens * rank)
	y := grow(to, tileTokens*s.heads*dim)
	(&ref.Expand{A: gather(&x.heads, s, pages, from, n), B: columns, Y: y, Rows: n, H: s.heads, R: rank, D: dim,
		Scale: 1 / float32(rank)}).Run()
	return y
}

// pack sorts a row's queries by the head that they read: [T, H, E] -> [G, T·H/G, E].
func (x *scratch) pack(row decode.Row, a attention.CacheRead, G int, q []float32) {
	E, own := a.P+a.R, a.H/G
	to := grow(&x.q, row.T*a.H*E)
	for t := range row.T {
		for g := range G {
			copy(to[(g*row.T+t)*own*E:][:own*E], q[((row.From+t)*a.H+g*own)*E:])
		}
	}
}

// gather puts n tokens of a slot side by side, from the beginning of a page: [n, heads, dim].
func gather(to *[]float32, s slot, pages []int32, from, n int) []float32 {
	width := s.heads * s.dim
	tile := grow(to, tileTokens*width)
	count := decode.PagesFor(n)
	ref.Spans(count, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			at := i * decode.PageTokens
			s.get(tile[at*width:min(at+decode.PageTokens, n)*width], place(pages, from+at))
		}
	})
	return tile
}

// softmax turns a row of scores into exp(score - top), of which those from lo to before hi count, and rescales what was
// summed before.
func softmax(s []float32, lo, hi int, o []float32, top, sum *float32, scale float32) {
	if lo >= hi {
		clear(s)
		return
	}
	most, read := *top, s[lo:hi]
	for i := range read {
		read[i] *= scale
		most = max(most, read[i])
	}
	if most > *top && *sum > 0 {
		shrink := float32(math.Exp(float64(*top - most)))
		*sum *= shrink
		for i := range o {
			o[i] *= shrink
		}
	}
	*top = most
	for i := range read {
		read[i] = ref.Exp(read[i] - most)
		*sum += read[i]
	}
	clear(s[:lo])
	clear(s[hi:])
}
