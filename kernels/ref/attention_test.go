package ref

import (
	"fmt"
	"math"
	"testing"
)

// attend is the oracle: plain softmax over whole rows, and its saved statistics.
func attend(k *Attention, q, key, v, rope []float64) (o, lse []float64) {
	E := k.P + k.R
	o, lse = make([]float64, k.B*k.T*k.H*k.Dv), make([]float64, k.B*k.H*k.T)
	for i := range k.B * k.T * k.H {
		b, t, h := i/(k.T*k.H), i/k.H%k.T, i%k.H
		p, sum := make([]float64, t+1), 0.0
		for j := range p {
			if !reads(k, b, t, j) {
				continue
			}
			at := ((b*k.T+j)*k.G + h/(k.H/k.G)) * k.KStride
			s := dot64(q[i*E:i*E+k.P], key[at:at+k.P])
			if k.R > 0 {
				s += dot64(q[i*E+k.P:(i+1)*E], rope[(b*k.T+j)*k.R:][:k.R])
			}
			p[j] = math.Exp(float64(k.Scale) * s)
			sum += p[j]
		}
		lse[(b*k.H+h)*k.T+t] = math.Log(sum)
		for j := range p {
			at := ((b*k.T+j)*k.G + h/(k.H/k.G)) * k.VStride
			for c := range k.Dv {
				o[i*k.Dv+c] += p[j] / sum * v[at+c]
			}
		}
	}
	return o, lse
}

// reads says by the definition whether a query reads a key of row b.
func reads(k *Attention, b, query, key int) bool {
	same := k.Starts == nil || k.Starts[b*k.T+query] == k.Starts[b*k.T+key]
	return key <= query && same && (k.Window == 0 || query-key < k.Window)
}

// packed is where the documents of rows start, of some lengths in turn; the first goes on in the next row.
func packed(B, T int, lengths ...int) (starts []int32) {
	start, left, i := 0, lengths[0], 0
	for at := range B * T {
		if at%T == 0 {
			start = 0
		}
		if left == 0 {
			i++
			start, left = at%T, lengths[i%len(lengths)]
		}
		left--
		starts = append(starts, int32(start))
	}
	return starts
}

// layouts are what the kinds of attention bind: apart, tied, and the latent kinds' key and value side by side.
var layouts = []struct {
	name              string
	P, R, Dv, W, VOff int
	shared, tied      bool
}{
	{name: "apart", P: 8, Dv: 6},
	{name: "tied", P: 4, R: 4, Dv: 8, W: 8, shared: true, tied: true},
	{name: "latent", P: 8, R: 4, Dv: 8, W: 16, VOff: 8, shared: true},
}

func TestAttention(t *testing.T) {
	for _, l := range layouts {
		for _, T := range []int{1, 3, 63, 64, 65, 127, 130, 300} {
			for _, heads := range [][2]int{{1, 1}, {4, 2}, {2, 1}} {
				if T > 65 && heads[0] != 4 {
					continue
				}
				for _, window := range []int{0, 2, 63, 65, 200} {
					if window > 0 && heads[0] != 4 {
						continue
					}
					k := &Attention{B: 2, T: T, H: heads[0], G: heads[1], P: l.P, R: l.R, Dv: l.Dv, Window: window,
						Scale: 0.6, KStride: l.P, VStride: l.Dv}
					if l.shared {
						k.KStride, k.VStride = l.W, l.W
					}
					t.Run(fmt.Sprintf("%s/T%d/H%dG%d/W%d", l.name, T, k.H, k.G, window),
						func(t *testing.T) {
							testAttention(t, k, l.VOff, l.shared, l.tied)
							if heads[0] != 4 || window != 0 && window != 65 {
								return
							}
							k.Starts = packed(k.B, T, 2, 1, 70, 129, 1, 1, 65)
							testAttention(t, k, l.VOff, l.shared, l.tied)
						})
				}
			}
		}
	}
}

func testAttention(t *testing.T, k *Attention, off int, shared, tied bool) {
	s := newSource(uint64(k.T))
	n, E := k.B*k.T, k.P+k.R
	k.Q, k.K = s.normal(n*k.H*E), s.normal(n*k.G*k.KStride)
	k.V = k.K[off:]
	if !shared {
		k.V = s.normal(n * k.G * k.Dv)
	}
	if k.R > 0 {
		k.KRope = s.normal(n * k.R)
	}
	k.O, k.LSE = s.guarded(n*k.H*k.Dv), s.guarded(n*k.H)
	twice(t, k, k.O, k.LSE)
	q, key, rope := wide(k.Q), wide(k.K), wide(k.KRope)
	v := key[off:]
	if !shared {
		v = wide(k.V)
	}
	o, lse := attend(k, q, key, v, rope)
	near(t, "o", k.O, o, 3e-6)
	near(t, "lse", k.LSE, lse, 1e-6)

	g := &AttentionGrad{Attention: *k, DO: s.normal(n * k.H * k.Dv), DQ: s.guarded(n * k.H * E),
		DK: s.guarded(n * k.G * k.KStride), DKRope: s.guarded(n * k.R), Tied: tied}
	outs := [][]float32{g.DQ, g.DK, g.DKRope}
	if shared {
		g.DV = g.DK[off:]
	} else {
		g.DV = s.guarded(n * k.G * k.Dv)
		outs = append(outs, g.DV)
	}
	twice(t, g, outs...)
	want := attendGrad(g, q, key, v, rope, o, lse, off, shared)
	near(t, "dq", g.DQ, want.dq, 1e-5)
	near(t, "dk", g.DK, want.dk, 1e-5)
	near(t, "dkrope", g.DKRope, want.dr, 1e-5)
	if !shared {
		near(t, "dv", g.DV, want.dv, 1e-5)
	}
	s.check(t)
	if k.T > 3 {
		return
	}
	do := wide(g.DO)
	loss := func() float64 { o, _ := attend(k, q, key, v, rope); return dot64(o, do) }
	near(t, "dq by differences", g.DQ, slope(loss, q), 1e-5)
	near(t, "dk by differences", g.DK, slope(loss, key), 1e-5)
	near(t, "dkrope by differences", g.DKRope, slope(loss, rope), 1e-5)
	if !shared {
		near(t, "dv by differences", g.DV, slope(loss, v), 1e-5)
	}
}

type attendGrads struct{ dq, dk, dv, dr []float64 }

// attendGrad is the oracle's gradient, a loop over all pairs; differences hold it at the small sizes.
func attendGrad(k *AttentionGrad, q, key, v, rope, o, lse []float64, off int, shared bool) attendGrads {
	E, do, a := k.P+k.R, wide(k.DO), float64(k.Scale)
	g := attendGrads{make([]float64, len(q)), make([]float64, len(key)), make([]float64, len(v)),
		make([]float64, len(rope))}
	if shared {
		g.dv = g.dk[off:]
	}
	for i := range k.B * k.T * k.H {
		b, t, h := i/(k.T*k.H), i/k.H%k.T, i%k.H
		delta := dot64(do[i*k.Dv:(i+1)*k.Dv], o[i*k.Dv:(i+1)*k.Dv])
		for j := range t + 1 {
			if !reads(&k.Attention, b, t, j) {
				continue
			}
			at := (b*k.T+j)*k.G + h/(k.H/k.G)
			s := 0.0
			for c := range E {
				s += q[i*E+c] * *part(k, key, rope, b, j, at, c)
			}
			p := math.Exp(a*s - lse[(b*k.H+h)*k.T+t])
			ds := -delta
			for c := range k.Dv {
				ds += do[i*k.Dv+c] * v[at*k.VStride+c]
				g.dv[at*k.VStride+c] += p * do[i*k.Dv+c]
			}
			ds *= a * p
			for c := range E {
				g.dq[i*E+c] += ds * *part(k, key, rope, b, j, at, c)
				*part(k, g.dk, g.dr, b, j, at, c) += ds * q[i*E+c]
			}
		}
	}
	return g
}

// part is word c of a key: in the group's own words or in the shared rope key.
func part(k *AttentionGrad, key, rope []float64, b, j, at, c int) *float64 {
	if c < k.P {
		return &key[at*k.KStride+c]
	}
	return &rope[(b*k.T+j)*k.R+c-k.P]
}

// A token changes no earlier row, not by one bit.
func TestCausal(t *testing.T) {
	const T, D, at = 130, 8, 70
	s := newSource(1)
	k := &Attention{B: 1, T: T, H: 1, G: 1, P: D, Dv: D, Scale: 0.5, Q: s.normal(T * D), K: s.normal(T * D),
		V: s.normal(T * D), KStride: D, VStride: D, O: s.guarded(T * D), LSE: s.guarded(T)}
	k.Run()
	before := append([]float32(nil), k.O...)
	for i := at * D; i < T*D; i++ {
		k.K[i], k.V[i] = k.K[i]+1, k.V[i]-1
	}
	k.Run()
	changed := false
	for i := range before {
		if before[i] != k.O[i] {
			changed = true
			if i < at*D {
				t.Fatalf("row %d changed", i/D)
			}
		}
	}
	if !changed {
		t.Error("nothing changed")
	}
}

// TestDocuments: documents in one row are, bit for bit, documents in rows of their own, forward and backward, where
// they begin with a tile.
func TestDocuments(t *testing.T) {
	const n, D, H, documents = tileK, 8, 2, 3
	s := newSource(1)
	layer := func(B, T int) *AttentionGrad {
		return &AttentionGrad{Attention: Attention{B: B, T: T, H: H, G: 1, P: D, Dv: D, Scale: 0.5, KStride: D, VStride: D}}
	}
	one, row := layer(documents, n), layer(1, documents*n)
	row.Starts = packed(1, documents*n, n)
	one.Q, one.K, one.V = s.normal(documents*n*H*D), s.normal(documents*n*D), s.normal(documents*n*D)
	one.DO = s.normal(documents * n * H * D)
	row.Q, row.K, row.V, row.DO = one.Q, one.K, one.V, one.DO
	for _, k := range []*AttentionGrad{one, row} {
		k.O, k.LSE, k.DQ = s.guarded(len(k.Q)), s.guarded(documents*n*H), s.guarded(len(k.Q))
		k.DK, k.DV = s.guarded(len(k.K)), s.guarded(len(k.V))
		k.Attention.Run()
		k.Run()
	}
	for _, x := range []struct {
		name      string
		got, want []float32
	}{{"o", row.O, one.O}, {"dq", row.DQ, one.DQ}, {"dk", row.DK, one.DK}, {"dv", row.DV, one.DV}} {
		for i, v := range x.got {
			if v != x.want[i] {
				t.Fatalf("%s[%d] is %g in a row of documents and %g alone", x.name, i, v, x.want[i])
			}
		}
	}
	s.check(t)
}

// BenchmarkDocuments is forward and gradient of attention at T 1,024, causal and within documents of about 256.
func BenchmarkDocuments(b *testing.B) {
	for name, starts := range map[string][]int32{"causal": nil, "documents": packed(1, 1024, 250, 262, 256)} {
		const T, H, D = 1024, 8, 64
		s := newSource(1)
		g := &AttentionGrad{Attention: Attention{B: 1, T: T, H: H, G: H, P: D, Dv: D, Starts: starts, Scale: 0.125,
			Q: s.normal(T * H * D), K: s.normal(T * H * D), V: s.normal(T * H * D), KStride: D, VStride: D,
			O: s.normal(T * H * D), LSE: s.normal(T * H)}, DO: s.normal(T * H * D), DQ: s.normal(T * H * D),
			DK: s.normal(T * H * D), DV: s.normal(T * H * D)}
		for kind, k := range map[string]runner{"forward": &g.Attention, "gradient": g} {
			b.Run(kind+"/"+name, func(b *testing.B) {
				for b.Loop() {
					k.Run()
				}
			})
		}
	}
}

// TestWindow: what lies before the window of every query is not even looked at, forward or backward, and what lies in
// it is. A fifth of the keys are NaN, which one product with a weight of zero would let through.
func TestWindow(t *testing.T) {
	const T, D, window, from = 512, 8, 100, 256
	s := newSource(1)
	g := &AttentionGrad{Attention: Attention{B: 1, T: T, H: 2, G: 1, P: D, Dv: D, Window: window, Scale: 0.5,
		Q: s.normal(T * 2 * D), K: s.normal(T * D), V: s.normal(T * D), KStride: D, VStride: D,
		O: s.guarded(T * 2 * D), LSE: s.guarded(T * 2)}, DO: s.normal(T * 2 * D), DQ: s.guarded(T * 2 * D),
		DK: s.guarded(T * D), DV: s.guarded(T * D)}
	for i := range (from - window - tileQ) * D {
		g.K[i], g.V[i] = float32(math.NaN()), float32(math.NaN())
	}
	g.Attention.Run()
	g.Run()
	finite := func(what string, x []float32) {
		t.Helper()
		for i, v := range x {
			if v != v {
				t.Fatalf("%s[%d] has seen what lies before the window", what, i)
			}
		}
	}
	finite("o", g.O[from*2*D:])
	finite("dq", g.DQ[from*2*D:])
	finite("dk", g.DK[from*D:])
	finite("dv", g.DV[from*D:])
	if o := g.O[0]; o == o {
		t.Error("the first query has not seen its own key")
	}
	g.Window = 1
	g.Attention.Run()
	for i, o := range g.O[from*2*D:] {
		if want := g.V[(from+i/(2*D))*D+i%D]; o != want {
			t.Fatalf("o[%d] is %g, and the one value in its window %g", i, o, want)
		}
	}
	s.check(t)
}

// BenchmarkWindow is forward and gradient of attention at T 2,048, causal and in a window of 256.
func BenchmarkWindow(b *testing.B) {
	for _, window := range []int{0, 256} {
		const T, H, D = 2048, 4, 64
		s := newSource(1)
		g := &AttentionGrad{Attention: Attention{B: 1, T: T, H: H, G: H, P: D, Dv: D, Window: window, Scale: 0.125,
			Q: s.normal(T * H * D), K: s.normal(T * H * D), V: s.normal(T * H * D), KStride: D, VStride: D,
			O: s.normal(T * H * D), LSE: s.normal(T * H)}, DO: s.normal(T * H * D), DQ: s.normal(T * H * D),
			DK: s.normal(T * H * D), DV: s.normal(T * H * D)}
		for name, k := range map[string]runner{"forward": &g.Attention, "gradient": g} {
			b.Run(fmt.Sprintf("%s/W%d", name, window), func(b *testing.B) {
				for b.Loop() {
					k.Run()
				}
			})
		}
	}
}

// Scores far apart and a NaN: the online softmax stays finite, and a NaN is seen.
func TestAttentionExtremes(t *testing.T) {
	const T = 70
	ones := func(v float32, n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = v * float32(i%n)
		}
		return x
	}
	k := &Attention{B: 1, T: T, H: 1, G: 1, P: 1, Dv: 1, Scale: 1, Q: ones(30, T), K: ones(3, T), V: ones(1, T),
		KStride: 1, VStride: 1, O: make([]float32, T), LSE: make([]float32, T)}
	k.Run()
	for i, o := range k.O {
		if math.Abs(float64(o)-float64(i)) > 1e-3*float64(i+1) {
			t.Errorf("row %d attends to %g, not to its own key", i, o)
		}
	}
	k.V[T-1] = float32(math.NaN())
	if k.Run(); k.O[T-1] == k.O[T-1] {
		t.Error("a NaN was lost")
	}
}
