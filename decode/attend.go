package decode

import (
	"math"

	"headroom/attention"
	"headroom/kernels/ref"
)

// tileTokens is how many cached tokens are gathered from their pages at a time.
const tileTokens = 512

// scratch is the memory of attend, of one row at a time: M = T·H/G queries of each of G heads.
type scratch struct {
	q, k, v, s, o []float32 // [G, M, E]  [G, S, E]  [G, S, Dv]  [G, M, S]  [G, M, Dv], S of a tile
	top, sum      []float32 // [G, M]
}

func grow(p *[]float32, n int) []float32 {
	if len(*p) < n {
		*p = make([]float32, n)
	}
	return (*p)[:n]
}

// attend runs one row's queries over its cache by an online softmax over tiles of tokens.
func (x *scratch) attend(slots []slot, row Row, a attention.CacheRead, q, out []float32) {
	G, E, S := slots[a.K].heads, a.P+a.R, row.Start+row.T
	own := a.H / G
	M := row.T * own
	x.pack(row, a, G, q)
	o, top, sum := grow(&x.o, G*M*a.Dv), grow(&x.top, G*M), grow(&x.sum, G*M)
	for i := range top {
		top[i], sum[i] = float32(math.Inf(-1)), 0
	}
	clear(o)
	s := grow(&x.s, G*M*tileTokens)
	for from := 0; from < S; from += tileTokens {
		n := min(tileTokens, S-from)
		k, v, wide := x.gather(slots, row.Pages, a, from, n)
		(&ref.Gemm{
			TransB: true, M: M, N: n, K: E, A: x.q, B: k, C: s, Lda: E, Ldb: E, Ldc: tileTokens,
			Batch: G, StrideA: M * E, StrideB: tileTokens * E, StrideC: M * tileTokens,
		}).Run() // [G, M, n]
		parallel(G*M, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				seen := min(n, row.Start+i%M/own+1-from)
				softmax(s[i*tileTokens:][:n], max(0, seen), o[i*a.Dv:][:a.Dv], &top[i], &sum[i], float32(a.Scale))
			}
		})
		(&ref.Gemm{
			M: M, N: a.Dv, K: n, A: s, B: v, C: o, Lda: tileTokens, Ldb: wide, Ldc: a.Dv, Accumulate: true,
			Batch: G, StrideA: M * tileTokens, StrideB: tileTokens * wide, StrideC: M * a.Dv,
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

// pack sorts a row's queries by the head that they read: [T, H, E] -> [G, T·H/G, E].
func (x *scratch) pack(row Row, a attention.CacheRead, G int, q []float32) {
	E, own := a.P+a.R, a.H/G
	to := grow(&x.q, row.T*a.H*E)
	for t := range row.T {
		for g := range G {
			copy(to[(g*row.T+t)*own*E:][:own*E], q[((row.From+t)*a.H+g*own)*E:])
		}
	}
}

// gather joins the keys of n tokens and finds their values, wide apart: behind the keys where both are one state.
func (x *scratch) gather(slots []slot, pages []int32, a attention.CacheRead, from, n int) (k, v []float32, wide int) {
	ks, vs := slots[a.K], slots[a.V]
	G, E := ks.heads, a.P+a.R
	k = grow(&x.k, G*tileTokens*E)
	shared := a.K == a.V && a.P >= a.Dv // the value lies within the key
	if !shared {
		v = grow(&x.v, G*tileTokens*a.Dv)
	}
	parallel(n, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			at := place(pages, from+t)
			for g := range G {
				key := k[(g*tileTokens+t)*E:][:E]
				copy(key[:a.P], ks.data[(at*G+g)*ks.dim:])
				if a.R > 0 {
					copy(key[a.P:], slots[a.KRope].data[at*a.R:])
				}
				if !shared {
					copy(v[(g*tileTokens+t)*a.Dv:][:a.Dv], vs.data[(at*G+g)*vs.dim:])
				}
			}
		}
	})
	if shared {
		return k, k, E
	}
	return k, v, a.Dv
}

// softmax turns a row of scores into exp(score - top), of which the first n count, and rescales what was summed before.
func softmax(s []float32, n int, o []float32, top, sum *float32, scale float32) {
	if n == 0 {
		clear(s)
		return
	}
	most := *top
	for i := range s[:n] {
		s[i] *= scale
		most = max(most, s[i])
	}
	if most > *top && *sum > 0 {
		shrink := float32(math.Exp(float64(*top - most)))
		*sum *= shrink
		for i := range o {
			o[i] *= shrink
		}
	}
	*top = most
	for i := range s[:n] {
		s[i] = float32(math.Exp(float64(s[i] - most)))
		*sum += s[i]
	}
	clear(s[n:])
}
