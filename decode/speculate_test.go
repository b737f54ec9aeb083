package decode_test

import (
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

// drafters are all ways to guess: well, badly, and by what was there before.
func drafters(t *testing.T, m *decode.Model, pages int) map[string]decode.Drafter {
	t.Helper()
	all := map[string]decode.Drafter{"lookup": decode.Lookup{3}}
	for name, other := range map[string]*decode.Model{
		"itself": m,
		"smaller": decodetest.Tiny(t, "mqa", func(c *model.Config, _ *attention.Config) {
			c.Layers, c.Context = 1, m.Config.Context
		}),
	} {
		d, err := decode.NewDraftModel(other, host.New(), decode.Options{Pages: pages}, 3, m)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = d
	}
	return all
}

func TestGreedySpeculationIsGreedy(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		m := decodetest.Tiny(t, kind)
		for name, d := range drafters(t, m, 12) {
			r := rand.New(rand.NewPCG(8, 8))
			plain, guessing := newEngine(t, m, decode.Options{Pages: 12, Chunk: 31}),
				newEngine(t, m, decode.Options{Pages: 12, Chunk: 31, Drafter: d})
			var want, got []*decode.Sequence
			for _, n := range []int{1, 70, 140} {
				q := decode.Request{Prompt: decodetest.Tokens(r, n, m.Config.Vocab), MaxTokens: 50}
				want, got = append(want, decodetest.Submit(t, plain, q)), append(got, decodetest.Submit(t, guessing, q))
			}
			decodetest.Finish(t, plain)
			decodetest.Finish(t, guessing)
			for i := range want {
				if !slices.Equal(got[i].Output(), want[i].Output()) {
					t.Errorf("%s by %s: %v, plainly %v", kind, name, got[i].Output(), want[i].Output())
				}
			}
			c := guessing.Counts
			if c.Drafted == 0 || name == "itself" && (c.Accepted < c.Drafted*9/10 || c.Passes > plain.Counts.Passes*2/3) {
				t.Errorf("%s by %s: %+v, plainly %+v", kind, name, c, plain.Counts)
			}
		}
	}
}

// TestSampledSpeculationKeepsTheDistribution compares the three tokens that follow a prompt with their exact joint
// distribution.
func TestSampledSpeculationKeepsTheDistribution(t *testing.T) {
	small := func(c *model.Config, a *attention.Config) { c.Layers, c.Width, c.MLP, c.Vocab = 1, 8, 8, 3 }
	m := decodetest.Tiny(t, "gta-2", small)
	draft, err := decode.NewDraftModel(decodetest.Tiny(t, "mqa", small), host.New(), decode.Options{Pages: 32}, 2, m)
	if err != nil {
		t.Fatal(err)
	}
	prompt, s := []int32{0, 1, 2, 0, 1}, decode.Sampling{Temperature: 1.3, TopP: 0.97}
	exact := make([]float64, 27)
	for i := range exact {
		tokens, p := slices.Clone(prompt), 1.0
		for _, next := range []int32{int32(i / 9), int32(i / 3 % 3), int32(i % 3)} {
			y := decodetest.Forward(t, m, tokens)
			p *= s.Odds(y[len(y)-3:], tokens)[next]
			tokens = append(tokens, next)
		}
		exact[i] = p
	}
	for name, d := range map[string]decode.Drafter{"none": nil, "lookup": decode.Lookup{2}, "smaller": draft} {
		e := newEngine(t, m, decode.Options{Pages: 32, Rows: 32, Drafter: d})
		counts := make([]int, 27)
		for seed := range uint64(250) {
			var batch []*decode.Sequence
			for i := range uint64(32) {
				s.Seed = 32*seed + i
				batch = append(batch, decodetest.Submit(t, e, decode.Request{Prompt: prompt, MaxTokens: 3, Sampling: s}))
			}
			decodetest.Finish(t, e)
			for _, q := range batch {
				o := q.Output()
				counts[o[0]*9+o[1]*3+o[2]]++
			}
		}
		if x := decode.ChiSquared(counts, exact); x > 4 || math.IsNaN(x) {
			t.Errorf("%s: %.1f deviations off: %v, exactly %v", name, x, counts, exact)
		}
		if d != nil && (e.Counts.Accepted == 0 || e.Counts.Accepted == e.Counts.Drafted) {
			t.Errorf("%s: %+v says nothing", name, e.Counts)
		}
	}
}

// TestDraftModelSeesTheText holds every guess's distribution against the draft model's plain pass over the text and the
// guesses before: rejected guesses must leave its cache.
func TestDraftModelSeesTheText(t *testing.T) {
	m, other := decodetest.Tiny(t, "gla-2"),
		decodetest.Tiny(t, "gqa-2", func(c *model.Config, _ *attention.Config) { c.Layers = 1 })
	d, err := decode.NewDraftModel(other, host.New(), decode.Options{Pages: 4}, 3, m)
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, m, decode.Options{Pages: 4, Drafter: d})
	s := decodetest.Submit(t, e, decode.Request{Prompt: []int32{3, 1, 4, 1, 5}, MaxTokens: 30, Sampling: decode.Sampling{
		Temperature: 1, Seed: 3}})
	for e.Busy() {
		e.Admit()
		if err := e.Propose(); err != nil {
			t.Fatal(err)
		}
		text := slices.Clone(s.Tokens)
		guesses, chances := s.Guesses()
		for i, guess := range guesses {
			y := decodetest.Forward(t, other, text)
			for token, p := range s.Odds(y[len(y)-m.Config.Vocab:], text) {
				if math.Abs(p-chances[i][token]) > 1e-4 {
					t.Fatalf("guess %d after %v: token %d has %g, not %g", i, text, token, chances[i][token], p)
				}
			}
			text = append(text, guess)
		}
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
	}
	if e.Counts.Accepted == 0 || e.Counts.Accepted == e.Counts.Drafted {
		t.Errorf("%+v says nothing", e.Counts)
	}
}

func TestBadDrafts(t *testing.T) {
	m := decodetest.Tiny(t, "mqa")
	other := decodetest.Tiny(t, "mqa", func(c *model.Config, _ *attention.Config) { c.Vocab = 40 })
	named := *m
	named.Tokenizer = "gpt2"
	for want, f := range map[string]func() (*decode.DraftModel, error){
		`decode: the draft model has tokenizer "" with 40 tokens, the model "" with 37: they must be the same`: func() (
			*decode.DraftModel, error) {
			return decode.NewDraftModel(other, host.New(), decode.Options{Pages: 1}, 1, m)
		},
		`decode: the draft model has tokenizer "gpt2" with 37 tokens, the model "" with 37: they must be the same`: func() (
			*decode.DraftModel, error) {
			return decode.NewDraftModel(&named, host.New(), decode.Options{Pages: 1}, 1, m)
		},
		"decode: a draft model must guess at least one token, not 0": func() (*decode.DraftModel, error) {
			return decode.NewDraftModel(m, host.New(), decode.Options{Pages: 1}, 0, m)
		},
	} {
		if _, err := f(); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
