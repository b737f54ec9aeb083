package ref

import (
	"math"
	"slices"
)

// A Decode is attention of T new tokens of each request to the tokens that its pages hold, itself among them: row t
// of a request of length S sees tokens 0 to S-T+t. A token's slot is page · Page + offset; a key is the first P words
// of K's row and the R words of KRope that all heads share; a value is V's row, or the first Dv words of K's when V
// is nil. With Window a row sees the last Window tokens of these alone. With Turn the last Turn words of a key in K
// are rotated by its position before the product, and not in K. Q [B,T,H,P+R]; K, V [slots,G,Dv]; KRope [slots,R];
// Pages [B,MaxPages]; Lengths [B]; O [B,T,H,Dv]; LSE [B,T,H] = log Σ exp. A row that sees nothing gets zeros and
// -Inf.
type Decode struct {
	B, T, H, G, P, R, Dv int
	Page, MaxPages       int
	Scale                float32
	Turn, Window         int
	Rotary               Rotary
	Q, K, V, KRope       []float32
	Pages, Lengths       []int32
	O, LSE               []float32
}

// Run executes the kernel on all cores.
func (k *Decode) Run() { parallel(k, k.B*k.H, 1) }

// slot is where a token of a request lies.
func slot(pages []int32, page, token int) int { return int(pages[token/page])*page + token%page }

func (k *Decode) span(w *worker, lo, hi int) {
	values := k.V
	if values == nil {
		values = k.K
	}
	for u := lo; u < hi; u++ {
		b, h := u/k.H, u%k.H
		g, length, pages := h/(k.H/k.G), int(k.Lengths[b]), k.Pages[b*k.MaxPages:(b+1)*k.MaxPages]
		weights := w.floats(max(length, 1))
		for t := range k.T {
			row := (b*k.T+t)*k.H + h
			q, o := k.Q[row*(k.P+k.R):(row+1)*(k.P+k.R)], k.O[row*k.Dv:(row+1)*k.Dv]
			clear(o)
			seen := length - k.T + t + 1
			if seen <= 0 {
				k.LSE[row] = float32(math.Inf(-1))
				continue
			}
			first := FirstKey(seen-1, k.Window)
			s := weights[:seen-first]
			for i := range s {
				at := slot(pages, k.Page, first+i)
				key := k.K[(at*k.G+g)*k.Dv:][:k.P]
				if k.Turn > 0 {
					key = slices.Clone(key)
					rotateRow(key[k.P-k.Turn:], key[k.P-k.Turn:], first+i, k.Rotary)
				}
				s[i] = vec.dot(q[:k.P], key)
				if k.R > 0 {
					s[i] += vec.dot(q[k.P:], k.KRope[at*k.R:][:k.R])
				}
			}
			m := vec.max(s)
			sum := vec.exp(s, s, k.Scale, -k.Scale*m)
			for i, p := range s {
				v := values[(slot(pages, k.Page, first+i)*k.G+g)*k.Dv:][:k.Dv]
				for c := range o {
					o[c] += p * v[c]
				}
			}
			vec.scale(o, 1/sum)
			k.LSE[row] = k.Scale*m + float32(math.Log(float64(sum)))
		}
	}
}

// An Append writes the T new tokens of each request into the pages, the last of them at position Lengths-1. K [B,T,G,D]
// is rotated over all of D when Rotate, else divided by its root mean square and weighted by Norm [G,D] when that is
// there, else copied; V [B,T,G,D] may be nil; KRope [B,T,R] is rotated. Angles follow Rope. Positions below 0 are left
// out.
type Append struct {
	B, T, G, D, R            int
	Page, MaxPages           int
	Rotate                   bool
	Rotary                   Rotary
	Eps                      float32
	K, V, KRope, Norm        []float32
	KCache, VCache, RopeKeys []float32 // [slots,G,D] twice, [slots,R]
	Pages, Lengths           []int32
}

// Run executes the kernel on all cores.
func (k *Append) Run() { parallel(k, k.B*k.T, 8) }

func (k *Append) span(_ *worker, lo, hi int) {
	for u := lo; u < hi; u++ {
		b, position := u/k.T, int(k.Lengths[u/k.T])-k.T+u%k.T
		if position < 0 || position >= k.Page*k.MaxPages {
			continue
		}
		at := slot(k.Pages[b*k.MaxPages:], k.Page, position)
		for g := range k.G {
			from, to := (u*k.G+g)*k.D, (at*k.G+g)*k.D
			src, dst := k.K[from:from+k.D], k.KCache[to:to+k.D]
			switch {
			case k.Rotate:
				rotateRow(dst, src, position, k.Rotary)
			case k.Norm != nil:
				r := 1 / math.Sqrt(vec.squares(src)/float64(k.D)+float64(k.Eps))
				vec.norm(dst, src, k.Norm[g*k.D:(g+1)*k.D], float32(r))
			default:
				copy(dst, src)
			}
			if k.V != nil {
				copy(k.VCache[to:to+k.D], k.V[from:from+k.D])
			}
		}
		if k.R > 0 {
			rotateRow(k.RopeKeys[at*k.R:(at+1)*k.R], k.KRope[u*k.R:(u+1)*k.R], position, k.Rotary)
		}
	}
}

// rotateRow rotates a row by a position, half-split.
func rotateRow(dst, src []float32, position int, rotary Rotary) {
	h := len(src) / 2
	for i := range h {
		sin, cos := math.Sincos(float64(position) * rotary.Frequency(i, len(src)))
		x, y, c, s := src[i], src[h+i], float32(cos), float32(sin)
		dst[i], dst[h+i] = x*c-y*s, y*c+x*s
	}
}
