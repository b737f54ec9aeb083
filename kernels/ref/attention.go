package ref

import "math"

// A tile of scores is at most tileQ queries by tileK keys. At T 512, D 32 forward and gradient took 139 + 265 ms of a
// core with 64 x 128, 163 + 282 with 64 x 64, 150 + 277 with 128 x 128 and 169 + 341 with 256 x 256.
const (
	tileQ = 64
	tileK = 128
)

// An Attention is causal attention o = softmax(Scale·q·kᵀ)·v with online softmax over tiles of keys. Q
// [B,T,H,P+R]; a key is P words at K[((b·T+t)·G+g)·KStride] and the R words KRope[b,t] that all heads share; a value
// is Dv words at V[((b·T+t)·G+g)·VStride]; head h reads group h/(H/G). O [B,T,H,Dv]; LSE [B,H,T] = log Σ exp.
//
// A query at position t of row b reads the keys first(b, t)..t. Tiles of keys that no query of a tile reads are
// skipped.
type Attention struct {
	B, T, H, G, P, R, Dv int
	Window               int     // a query reads at most so many keys, its own with them; 0 is all
	Starts               []int32 // [B,T] where the document of each position starts in its row; nil: every row is one
	Scale                float32
	Q, K, V, KRope       []float32
	KStride, VStride     int
	O, LSE               []float32
}

// FirstKey is the first key that a query at position t reads with a window, where 0 is none. It never falls as t grows.
func FirstKey(t, window int) int {
	if window == 0 {
		return 0
	}
	return max(0, t-window+1)
}

// first is the first key of the query at position t of row b. It never falls as t grows, as a document that starts
// ends the one before it.
func (k *Attention) first(b, t int) int {
	first := FirstKey(t, k.Window)
	if k.Starts != nil {
		first = max(first, int(k.Starts[b*k.T+t]))
	}
	return first
}

// Run executes the kernel on all cores.
func (k *Attention) Run() { parallel(k, k.B*k.H, 1) }

func (k *Attention) span(w *worker, lo, hi int) {
	E := k.P + k.R
	scratch := w.floats(k.T*E + tileQ*tileK + 2*tileQ)
	keys, s, m, l := scratch[:k.T*E], scratch[k.T*E:], scratch[k.T*E+tileQ*tileK:], scratch[k.T*E+tileQ*tileK+tileQ:]
	for u := lo; u < hi; u++ {
		b, h := u/k.H, u%k.H
		k.packKeys(keys, b, h/(k.H/k.G))
		for i := 0; i < k.T; i += tileQ {
			k.queries(keys, s, m, l, b, h, i, min(tileQ, k.T-i))
		}
	}
}

// packKeys joins the two parts of each key of a group: keys [T, P+R].
func (k *Attention) packKeys(keys []float32, b, g int) {
	E := k.P + k.R
	for t := range k.T {
		row := keys[t*E : (t+1)*E]
		copy(row[:k.P], k.K[((b*k.T+t)*k.G+g)*k.KStride:])
		if k.R > 0 {
			copy(row[k.P:], k.KRope[(b*k.T+t)*k.R:])
		}
	}
}

// queries runs nq queries of one head from row i over the keys that they read; m and l are the running maximum and sum.
func (k *Attention) queries(keys, s, m, l []float32, b, h, i, nq int) {
	E, g := k.P+k.R, h/(k.H/k.G)
	q, o := k.Q[((b*k.T+i)*k.H+h)*E:], k.O[((b*k.T+i)*k.H+h)*k.Dv:]
	for r := range nq {
		m[r], l[r] = float32(math.Inf(-1)), 0
	}
	start := k.first(b, i)
	for j := start; j < i+nq; j += tileK {
		nk := min(tileK, i+nq-j)
		v := k.V[((b*k.T+j)*k.G+g)*k.VStride:]
		sgemm(false, true, nq, nk, E, q, k.H*E, keys[j*E:], E, 0, s, tileK) // [nq, nk]
		for r := range nq {
			lo, hi := max(0, k.first(b, i+r)-j), min(nk, i+r-j+1)
			k.softmax(s[r*tileK:][:nk], lo, hi, o[r*k.H*k.Dv:][:k.Dv], &m[r], &l[r], j > start)
		}
		sgemm(false, false, nq, k.Dv, nk, s, tileK, v, k.G*k.VStride, min(float32(j-start), 1), o, k.H*k.Dv) // [nq, Dv]
	}
	for r := range nq {
		vec.scale(o[r*k.H*k.Dv:][:k.Dv], 1/l[r])
		k.LSE[(b*k.H+h)*k.T+i+r] = m[r] + float32(math.Log(float64(l[r])))
	}
}

// softmax turns a row of scores into exp(score - m), of which those from lo to before hi count, and rescales what was
// summed before.
func (k *Attention) softmax(s []float32, lo, hi int, o []float32, m, l *float32, rescale bool) {
	if lo >= hi {
		clear(s)
		return
	}
	top := max(*m, k.Scale*vec.max(s[lo:hi]))
	if rescale && top > *m {
		a := float32(math.Exp(float64(*m - top)))
		*l *= a
		vec.scale(o, a)
	}
	*m = top
	*l += vec.exp(s[lo:hi], s[lo:hi], k.Scale, -top)
	clear(s[:lo])
	clear(s[hi:])
}
