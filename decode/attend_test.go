package decode

import (
	"math"
	"math/rand/v2"
	"testing"

	"headroom/attention"
	"headroom/kernels/ref"
)

// TestAttendIsTheReference holds attend against the reference kernel of decoding, whose conventions it shares: shapes of
// every kind, with one new token and several, over parts of pages and several tiles.
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
		{"gta", 2, attention.CacheRead{H: 4, P: 8, R: 8, Dv: 16, KRope: 1}},
		{"gla", 2, attention.CacheRead{H: 4, P: 32, R: 6, Dv: 32, KRope: 1}},
		{"mla", 1, attention.CacheRead{H: 5, P: 64, R: 16, Dv: 64, KRope: 1}},
	} {
		a := c.read
		a.Scale = 0.3
		for _, S := range []int{1, 63, 64, 65, tileTokens, 2*tileTokens + 77} {
			for _, T := range []int{1, 2, 7, 64} {
				if T > S {
					continue
				}
				p := scattered(r, pagesFor(S)+3)
				pages, _ := p.take(pagesFor(S))
				slots := []slot{{c.G, a.Dv, normal(p.total * PageTokens * c.G * a.Dv)}}
				k := ref.Decode{
					B: 1, T: T, H: a.H, G: c.G, P: a.P, R: a.R, Dv: a.Dv, Page: PageTokens, MaxPages: len(pages), Scale: 0.3,
					Q: normal(T * a.H * (a.P + a.R)), K: slots[0].data, Pages: pages, Lengths: []int32{int32(S)},
					O: make([]float32, T*a.H*a.Dv), LSE: make([]float32, T*a.H),
				}
				if a.R > 0 {
					slots = append(slots, slot{1, a.R, normal(p.total * PageTokens * a.R)})
					k.KRope = slots[1].data
				} else {
					slots = append(slots, slot{c.G, a.Dv, normal(p.total * PageTokens * c.G * a.Dv)})
					k.V = slots[1].data
				}
				k.Run()
				var x scratch
				got := make([]float32, len(k.O))
				x.attend(slots, Row{Pages: pages, Start: S - T, T: T}, a, k.Q, got)
				near(t, c.name, got, k.O)
			}
		}
	}
}

func TestExp(t *testing.T) {
	for x := float32(0); x > -87; x -= 0.0037 {
		if want := math.Exp(float64(x)); math.Abs(float64(exp(x))/want-1) > 2e-7 {
			t.Fatalf("exp(%g) = %g, not %g", x, exp(x), want)
		}
	}
	if exp(0) != 1 || exp(-88) != 0 || exp(float32(math.Inf(-1))) != 0 {
		t.Error(exp(0), exp(-88), exp(float32(math.Inf(-1))))
	}
}
