package host

import (
	"math/rand/v2"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/internal/graph"
	"headroom/kernels/ref"
)

// TestFactorsAreTheirProducts holds attention to a cache of factors against that to the keys and values that they are
// factors of, computed here one by one, over several tiles.
func TestFactorsAreTheirProducts(t *testing.T) {
	const H, D, R, Dv = 5, 8, 3, 8
	r := rand.New(rand.NewPCG(4, 3))
	for _, S := range []int{1, 65, tileTokens + 77} {
		total := decode.PagesFor(S) + 3
		pages := decodetest.Scattered(r, total).Take(t, S)
		tokens := total * decode.PageTokens
		fresh := func(heads, dim int) (slot, []float32) {
			s, x := newSlot(attention.Slot{Heads: heads, Dim: dim}, total, attention.FP32), make([]float32, tokens*heads*dim)
			for i := range x {
				x[i] = float32(r.NormFloat64())
			}
			s.put(0, x)
			return s, x
		}
		bk, columnsK := fresh(1, R*D)
		bv, columnsV := fresh(1, R*Dv)
		ak, headsK := fresh(H, R)
		av, headsV := fresh(H, R)
		dense := func(heads, columns []float32, dim int) []float32 {
			y := make([]float32, tokens*H*dim)
			for i := range y {
				token, h, d := i/(H*dim), i/dim%H, i%dim
				for k := range R {
					y[i] += heads[(token*H+h)*R+k] * columns[(token*R+k)*dim+d] / R
				}
			}
			return y
		}
		q := make([]float32, min(S, 4)*H*D)
		for i := range q {
			q[i] = float32(r.NormFloat64())
		}
		T := len(q) / (H * D)
		k := ref.Decode{B: 1, T: T, H: H, G: H, P: D, Dv: Dv, Page: decode.PageTokens, MaxPages: len(pages), Scale: 0.3, Q: q,
			K: dense(headsK, columnsK, D), V: dense(headsV, columnsV, Dv), Pages: pages, Lengths: []int32{int32(S)},
			O: make([]float32, T*H*Dv), LSE: make([]float32, T*H)}
		k.Run()
		var x scratch
		got := make([]float32, len(k.O))
		x.attend([]slot{bk, bv, ak, av}, decode.Row{Pages: pages, Start: S - T, T: T}, attention.CacheRead{H: H, P: D, Dv: Dv,
			K: 0, V: 1, KHeads: 2, VHeads: 3, Rank: R, Scale: 0.3}, q, got)
		decodetest.Near(t, "factors", got, k.O)
	}
}

// TestAttendIsTheReference holds attend against the reference kernel of decoding, whose conventions it shares: shapes
// of every kind, with one new token and several, over parts of pages and several tiles.
func TestAttendIsTheReference(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2))
	normal := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	for _, c := range []struct {
		name string
		G    int
		read attention.CacheRead
	}{
		{"gqa", 2, attention.CacheRead{H: 6, P: 16, Dv: 16, V: 1}},
		{"mqa", 1, attention.CacheRead{H: 3, P: 8, Dv: 8, V: 1}},
		{"unrotated", 2, attention.CacheRead{H: 6, P: 16, Dv: 16, Turn: 16, Rotary: graph.Rotary{Theta: 500}}},
		{"half unrotated", 1, attention.CacheRead{H: 3, P: 16, Dv: 16, Turn: 8, Rotary: graph.Rotary{Theta: 500}}},
		{"gta", 2, attention.CacheRead{H: 4, P: 8, R: 8, Dv: 16, KRope: 1}},
		{"gla", 2, attention.CacheRead{H: 4, P: 32, R: 6, Dv: 32, KRope: 1}},
		{"mla", 1, attention.CacheRead{H: 5, P: 64, R: 16, Dv: 64, KRope: 1}},
	} {
		a := c.read
		a.Scale = 0.3
		for _, S := range []int{1, 63, 64, 65, tileTokens, 2*tileTokens + 77} {
			for j, T := range []int{1, 2, 7, 64} {
				if T > S {
					continue
				}
				a.Window = []int{0, 1, 70, 600, 5000}[(S+j)%5]
				total := decode.PagesFor(S) + 3
				pages := decodetest.Scattered(r, total).Take(t, S)
				fresh := func(heads, dim int) (slot, []float32) {
					s, x := newSlot(attention.Slot{Heads: heads, Dim: dim}, total, attention.FP32),
						normal(total*decode.PageTokens*heads*dim)
					s.put(0, x)
					return s, x
				}
				first, keys := fresh(c.G, a.Dv)
				slots := []slot{first}
				k := ref.Decode{
					B: 1, T: T, H: a.H, G: c.G, P: a.P, R: a.R, Dv: a.Dv, Page: decode.PageTokens, MaxPages: len(pages), Scale: 0.3,
					Window: a.Window,
					Q:      normal(T * a.H * (a.P + a.R)), K: keys, Pages: pages, Lengths: []int32{int32(S)},
					O: make([]float32, T*a.H*a.Dv), LSE: make([]float32, T*a.H),
				}
				var x scratch
				switch {
				case a.Turn > 0:
					k.Turn, k.Rotary = a.Turn, a.Rotary
					d := Device{rotaries: map[rotation]*rotary{}}
					x.turn = d.upTo(S, rotation{a.Turn, a.Rotary})
				case a.R > 0:
					first, k.KRope = fresh(1, a.R)
				default:
					first, k.V = fresh(c.G, a.Dv)
				}
				slots = append(slots, first)
				k.Run()
				got := make([]float32, len(k.O))
				x.attend(slots, decode.Row{Pages: pages, Start: S - T, T: T}, a, k.Q, got)
				decodetest.Near(t, c.name, got, k.O)
			}
		}
	}
}
