package host

import (
	"math/rand/v2"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/model"
)

// TestAnySplitIsTheForwardPass cuts sequences at random into chunks and steps, three requests side by side, each at its
// own pace, in pages at random places.
func TestAnySplitIsTheForwardPass(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		for _, bias := range []string{"paper", "none"} {
			m := decodetest.Tiny(t, kind, func(_ *model.Config, a *attention.Config) { a.Bias = bias })
			r := rand.New(rand.NewPCG(3, uint64(len(kind))))
			d, p := NewDevice(m, 20), decodetest.Scattered(r, 20)
			V := m.Config.Vocab
			type request struct {
				tokens []int32
				pages  []int32
				done   int
				got    []float32
			}
			var all []*request
			for _, n := range []int{1, 150, 65} {
				pages := p.Take(t, n)
				all = append(all, &request{tokens: decodetest.Tokens(r, n, V), pages: pages})
			}
			for left := true; left; {
				var b decode.Batch
				var rows []*request
				for _, q := range all {
					n := min(len(q.tokens)-q.done, []int{0, 1, 1, 2, 17, 70}[r.IntN(6)])
					if n == 0 {
						continue
					}
					b.Add(q.pages, q.done, q.tokens[q.done:q.done+n], n)
					q.done += n
					rows = append(rows, q)
				}
				left = false
				for _, q := range all {
					left = left || q.done < len(q.tokens)
				}
				if len(rows) == 0 {
					continue
				}
				y := decodetest.Pass(t, d, b)
				for i, q := range rows {
					q.got = append(q.got, y[b.Rows[i].From*V:(b.Rows[i].From+b.Rows[i].T)*V]...)
				}
			}
			for _, q := range all {
				decodetest.Near(t, kind+" bias "+bias, q.got, decodetest.Forward(t, m, q.tokens))
			}
		}
	}
}

// TestTiles reaches over several tiles of cached tokens.
func TestTiles(t *testing.T) {
	m := decodetest.Tiny(t, "gla-2", func(c *model.Config, _ *attention.Config) { c.Layers = 1 })
	r := rand.New(rand.NewPCG(5, 5))
	tokens := decodetest.Tokens(r, 2*tileTokens+100, m.Config.Vocab)
	n := decode.PagesFor(len(tokens))
	d, pages := NewDevice(m, n), decodetest.Scattered(r, n).Take(t, len(tokens))
	V, got := m.Config.Vocab, []float32(nil)
	for from := 0; from < len(tokens); from += 300 {
		var b decode.Batch
		part := tokens[from:min(from+300, len(tokens))]
		b.Add(pages, from, part, len(part))
		got = append(got, decodetest.Pass(t, d, b)[:len(part)*V]...)
	}
	decodetest.Near(t, "three tiles", got, decodetest.Forward(t, m, tokens))
}

func TestCacheBytesAreTheLayouts(t *testing.T) {
	for kind, elements := range map[string]int{"mha": 64, "mqa": 16, "mfa": 16, "gqa-2": 32, "gta-2": 20, "mla": 36,
		"gla-2": 36, "gla_q-2": 36} {
		m := decodetest.Tiny(t, kind)
		fit := decode.Fit(m.Transformer, 1, 1<<20, attention.FP32)
		want := int64(fit.Pages * decode.PageTokens * m.Config.Layers * elements * 4)
		if got := NewDevice(m, fit.Pages).CacheBytes(); got != want || fit.Bytes != want || want > 1<<20 ||
			fit.TokenBytes != 2*4*elements {
			t.Errorf("%s: pool of %d bytes, %+v, the layout says %d", kind, got, fit, want)
		}
	}
}
