package host

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/internal/graph"
	"headroom/kernels/ref"
)

// exactly is the value of a byte of E4M3 by its definition, in float64.
func exactly(b ref.E4M3) float64 {
	e, m := int(b>>3&15), float64(b&7)
	v := math.Ldexp(1+m/8, e-7)
	if e == 0 {
		v = math.Ldexp(m/8, -6)
	}
	if b > 127 {
		v = -v
	}
	return v
}

// nearestE4M3 is a vector as an fp8 cache must keep it, found by trying: the least power of two by which no element is
// above 448, and by it the nearest of all values, the even of two as near.
func nearestE4M3(x []float32) []float64 {
	top, scale := 0.0, math.Ldexp(1, -117)
	for _, v := range x {
		top = max(top, math.Abs(float64(v)))
	}
	for top > 448*scale {
		scale *= 2
	}
	y := make([]float64, len(x))
	for i, v := range x {
		best := math.Inf(1)
		for b := range 256 {
			if b&0x7f == 0x7f {
				continue
			}
			value := exactly(ref.E4M3(b)) * scale
			if d := math.Abs(value - float64(v)); d < best || d == best && b&1 == 0 && value != 0 {
				best, y[i] = d, value
			}
		}
	}
	return y
}

// A rounded device keeps a cache in float32, but what it appends is what another keeps in fp8 of the same tokens. It
// fails where that is not the nearest to what it would have appended itself.
type rounded struct {
	*Device
	t     *testing.T
	of    *Device
	pages []int32 // of the other
}

func (r *rounded) Append(layer, at int, x graph.Buf) {
	s, own := r.of.cache[layer][at], slices.Clone(floats(x))
	theirs := make([]float32, len(own))
	for i := range r.tokens() {
		s.get(theirs[i*s.heads*s.dim:][:s.heads*s.dim], place(r.pages, i))
	}
	for v := 0; v < len(own); v += s.dim {
		mine, got := own[v:v+s.dim], theirs[v:v+s.dim]
		want, step := nearestE4M3(mine), 0.0
		if attention.FP8.Of(r.slot(layer, at)) == attention.BF16 {
			for i, y := range mine {
				want[i] = float64(math.Float32frombits((math.Float32bits(y) + 0x7fff + math.Float32bits(y)>>16&1) &^ 0xffff))
			}
		}
		for _, y := range mine {
			step = max(step, math.Abs(float64(y)))
		}
		for i, y := range got {
			// two passes differ by the order of sums: where they stand on two sides of a midpoint, both are right
			off, least := math.Abs(float64(y)-float64(mine[i])), math.Abs(want[i]-float64(mine[i]))
			if !(off <= least+2e-5*step) {
				r.t.Fatalf("layer %d, slot %d: %v is kept as %v, the nearest is %v", layer, at, mine[i], y, want[i])
			}
		}
	}
	copy(floats(x), theirs)
	r.Device.Append(layer, at, x)
}

func (r *rounded) slot(layer, at int) attention.Slot { return r.model.CacheLayout(layer)[at] }

// TestFP8IsTheRoundedPass cuts sequences at random into chunks and steps over an fp8 cache, and holds the logits
// against one pass over each sequence in which every state that a token leaves in the cache is rounded by the rule.
func TestFP8IsTheRoundedPass(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		m := decodetest.Tiny(t, kind)
		roundedPass(t, kind, m)
	}
	roundedPass(t, "layers that differ", decodetest.Mixed(t, decodetest.Small...))
}

func roundedPass(t *testing.T, name string, m *decode.Model) {
	t.Helper()
	const pages = 20
	d, texts := newDevice(m, pages, attention.FP8), decodetest.Texts(m)
	for seed := range uint64(2) {
		got, held := decodetest.SplitPages(t, d, m, seed, texts)
		for i, text := range texts {
			r := &rounded{newDevice(m, pages, attention.FP32), t, d, held[i]}
			var b decode.Batch
			b.Add(held[i], 0, text, len(text))
			r.batch = b
			want := floats(m.Decode(r))
			decodetest.Near(t, name, got[i], want)
			plain := decodetest.Forward(t, m, text)
			if slices.Equal(want, plain) {
				t.Errorf("%s: nothing was rounded", name)
			}
		}
	}
}

// TestAttendReadsFP8 holds attention to fp8 caches of every form against sums in float64 over the values of their
// bytes.
func TestAttendReadsFP8(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 8))
	for _, c := range []struct {
		name string
		G    int
		read attention.CacheRead
	}{
		{"gqa", 2, attention.CacheRead{H: 6, P: 16, Dv: 16, V: 1}},
		{"gta", 2, attention.CacheRead{H: 4, P: 8, R: 8, Dv: 16, KRope: 1}},
		{"gla", 2, attention.CacheRead{H: 4, P: 32, R: 6, Dv: 32, KRope: 1}},
		{"mla", 1, attention.CacheRead{H: 5, P: 64, R: 16, Dv: 64, KRope: 1}},
	} {
		a := c.read
		a.Scale = 0.3
		for _, S := range []int{1, 65, tileTokens + 77} {
			for _, T := range []int{1, 7} {
				total := decode.PagesFor(S) + 3
				pages := decodetest.Scattered(r, total).Take(t, S)
				second := attention.Slot{Name: "v", Heads: c.G, Dim: a.Dv}
				if a.R > 0 {
					second = attention.Slot{Name: attention.RopeKey, Heads: 1, Dim: a.R}
				}
				slots := []slot{newSlot(attention.Slot{Name: "k", Heads: c.G, Dim: a.Dv}, total, attention.FP8),
					newSlot(second, total, attention.FP8)}
				for _, s := range slots {
					x := make([]float32, s.heads*s.dim)
					for i := range S {
						for j := range x {
							x[j] = float32(math.Ldexp(r.NormFloat64(), r.IntN(9)-6))
						}
						s.put(place(pages, i), x)
					}
				}
				T := min(T, S)
				q, got := make([]float32, T*a.H*(a.P+a.R)), make([]float32, T*a.H*a.Dv)
				for i := range q {
					q[i] = float32(r.NormFloat64())
				}
				var x scratch
				x.attend(slots, decode.Row{Pages: pages, Start: S - T, T: T}, a, q, got)
				want := attendExactly(slots, pages, a, q, S, T)
				decodetest.Near(t, c.name, got, want)
			}
		}
	}
}

// element is an element of a token's vector in a slot by what its bytes mean.
func element(s slot, place, head, i int) float64 {
	switch e := s.elements.(type) {
	case *scaled:
		page, at := place/decode.PageTokens, place%decode.PageTokens
		scale := math.Ldexp(1, int(e.scales[page*s.heads*decode.PageTokens+head*decode.PageTokens+at])-127)
		return exactly(e.codes[(place*s.heads+head)*s.dim+i]) * scale
	case halves:
		return float64(math.Float32frombits(uint32(e.data[(place*s.heads+head)*s.dim+i]) << 16))
	}
	panic("a slot of an fp8 cache is E4M3 or bf16")
}

func attendExactly(slots []slot, pages []int32, a attention.CacheRead, q []float32, S, T int) (out []float32) {
	G, E := slots[a.K].heads, a.P+a.R
	for t := range T {
		for h := range a.H {
			g, seen := h/(a.H/G), S-T+t+1
			row := q[(t*a.H+h)*E:][:E]
			o, sum, scores, top := make([]float64, a.Dv), 0.0, make([]float64, seen), math.Inf(-1)
			for s := range scores {
				at := place(pages, s)
				for i := range a.P {
					scores[s] += float64(row[i]) * element(slots[a.K], at, g, i)
				}
				for i := range a.R {
					scores[s] += float64(row[a.P+i]) * element(slots[a.KRope], at, 0, i)
				}
				scores[s] *= a.Scale
				top = max(top, scores[s])
			}
			for s, score := range scores {
				w := math.Exp(score - top)
				sum += w
				for i := range o {
					o[i] += w * element(slots[a.V], place(pages, s), g, i)
				}
			}
			for _, v := range o {
				out = append(out, float32(v/sum))
			}
		}
	}
	return out
}

// TestCacheTypesTakeWhatTheLayoutSays holds what a device allocates in each type against the layout, and the layout
// against counts by hand: 8 heads of 8, a rope key of 4, latents of 32 in all.
func TestCacheTypesTakeWhatTheLayoutSays(t *testing.T) {
	for kind, want := range map[string][3]int{
		"mha": {64, 0, 8}, "gqa-2": {32, 0, 4}, "mqa": {16, 0, 2}, "gta-2": {16, 4, 2}, "mla": {32, 4, 1},
		"gla-2": {32, 4, 2},
	} {
		m := decodetest.Tiny(t, kind)
		elements, rope, vectors := want[0], want[1], want[2]
		for c, bytes := range map[attention.CacheType]int{attention.FP32: 4 * (elements + rope),
			attention.BF16: 2 * (elements + rope), attention.FP8: elements + vectors + 2*rope} {
			token := m.Config.Layers * bytes
			if got := newDevice(m, 3, c).CacheBytes(); got != int64(3*decode.PageTokens*token) || m.CacheBytes(1, c) != token {
				t.Errorf("%s in %s: a pool of %d bytes, %d a token, not %d", kind, c, got, m.CacheBytes(1, c), token)
			}
		}
	}
}

// TestFreshAndBadPagesAreNaN: what was never written, and what was written as no number, is read as none in every type.
func TestFreshAndBadPagesAreNaN(t *testing.T) {
	for _, c := range attention.CacheTypes {
		for _, name := range []string{"k", attention.RopeKey} {
			s := newSlot(attention.Slot{Name: name, Heads: 2, Dim: 3}, 1, c)
			x := make([]float32, 6)
			if s.get(x, 5); !slices.ContainsFunc(x, func(v float32) bool { return v == v }) == false {
				t.Errorf("%s in %s: fresh elements are %v", name, c, x)
			}
			s.put(5, []float32{1, 2, 3, 4, float32(math.NaN()), 6})
			if s.get(x, 5); x[0] != 1 || x[1] != 2 || x[2] != 3 || x[4] == x[4] {
				t.Errorf("%s in %s: beside NaN the elements are %v", name, c, x)
			}
		}
	}
}
