package host_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
	"headroom/model"
)

// TestShardsSayTheSame serves random requests with a model in 1, 2 and 4 parts, with each gate and with switches drawn
// at random: the same greedy tokens, and logits that differ by the order of sums alone.
func TestShardsSayTheSame(t *testing.T) {
	eight := func(c *model.Config, a *attention.Config) { a.Heads, c.MLP = 8, 48 }
	normed := func(_ *model.Config, a *attention.Config) { a.QKNorm = attention.HeadNorm }
	sameInParts(t, "gqa-2 with qk_norm head", decodetest.Tiny(t, "gqa-2", eight, normed))
	for _, kind := range append(slices.Clone(decodetest.Kinds), "gta-4", "gla-4", "gla_q-4", "mlra-2", "mlra-4") {
		for gate, width := range map[string]int{attention.NoGate: 0, attention.HeadGate: 0, attention.ElementGate: 5} {
			gated := func(_ *model.Config, a *attention.Config) { a.Gate, a.GateWidth = gate, width }
			sameInParts(t, fmt.Sprintf("%s with gate %s", kind, gate), decodetest.Tiny(t, kind, eight, gated))
		}
		m := decodetest.Tiny(t, kind, eight, decodetest.Switched(rand.New(rand.NewPCG(1, 4))))
		if _, err := m.Transformer.Shard(4); err == nil {
			sameInParts(t, fmt.Sprintf("%+v", m.Attention), m)
		}
	}
}

func sameInParts(t *testing.T, what string, m *decode.Model) {
	t.Helper()
	want := inParts(t, m, 1)
	for _, parts := range []int{2, 4} {
		for i, s := range inParts(t, m, parts) {
			sameScores(t, fmt.Sprintf("%s in %d parts: request %d", what, parts, i), s, want[i])
		}
	}
}

// inParts serves random requests with a model in so many parts.
func inParts(t *testing.T, m *decode.Model, parts int) (all []*decode.Sequence) {
	t.Helper()
	e, err := decode.Open(m, host.Sharded(parts, attention.FP32), decode.Options{Pages: 20, Rows: 5, Chunk: 30,
		Scored: 20})
	if err != nil {
		t.Fatalf("%s in %d parts: %v", m.Attention.Name(), parts, err)
	}
	r := rand.New(rand.NewPCG(2, 3))
	for range 8 {
		q := decode.Request{Prompt: decodetest.Tokens(r, 1+r.IntN(90), m.Config.Vocab), MaxTokens: 12, Score: true,
			Echo: true}
		all = append(all, decodetest.Submit(t, e, q))
	}
	decodetest.Finish(t, e)
	return all
}

// sameScores holds one request's tokens and scores against those of another.
func sameScores(t *testing.T, what string, got, want *decode.Sequence) {
	t.Helper()
	if !slices.Equal(got.Tokens, want.Tokens) {
		t.Errorf("%s has other tokens", what)
		return
	}
	for j, score := range got.Scores {
		if d := math.Abs(float64(score.LogProb - want.Scores[j].LogProb)); !(d < 2e-5) {
			t.Errorf("%s: token %d is off by %v", what, j, d)
			return
		}
	}
}

// TestShardsCache holds what each device really allocates against the layout: what divides, and what all must hold.
func TestShardsCache(t *testing.T) {
	const pages = 3
	for _, c := range []struct {
		kind  string
		parts int
		want  int // elements of a token and layer on each device: 8 heads of 8, rope 4, latents of 32
	}{
		{"mha", 2, 64}, {"gqa-4", 2, 32}, {"gqa-4", 4, 16}, {"gqa-4", 8, 16}, {"mqa", 2, 16}, {"gta-4", 2, 16 + 4},
		{"gta-4", 4, 8 + 4},
		{"mla", 1, 32 + 4}, {"mla", 2, 32 + 4}, {"gla-2", 1, 2*16 + 4}, {"gla-2", 2, 16 + 4}, {"gla-2", 4, 16 + 4},
		{"mlra-2", 1, 4*8 + 4}, {"mlra-2", 2, 2*8 + 4}, {"mlra-2", 4, 8 + 4}, {"mlra-4", 4, 8 + 4},
	} {
		m := decodetest.Tiny(t, c.kind, func(_ *model.Config, a *attention.Config) { a.Heads = 8 })
		d, err := host.Sharded(c.parts, attention.FP32).Open(m, decode.Limits{Pages: pages})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := d.CacheBytes(), int64(4*c.parts*c.want*m.Config.Layers*pages*decode.PageTokens); got != want {
			t.Errorf("%s on %d: %d bytes, not %d", c.kind, c.parts, got, want)
		}
		if got := m.CacheBytes(c.parts, attention.FP32); got != 4*c.want*m.Config.Layers {
			t.Errorf("%s on %d: the layout says %d bytes a token and device, not %d", c.kind, c.parts, got,
				4*c.want*m.Config.Layers)
		}
	}
}
