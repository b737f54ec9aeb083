package decode

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/model"
)

// drafters are all ways to guess: well, badly, and by what was there before.
func drafters(t *testing.T, m *Model, pages int) map[string]Drafter {
	t.Helper()
	all := map[string]Drafter{"lookup": Lookup{3}}
	for name, other := range map[string]*Model{
		"itself":  m,
		"smaller": tiny(t, "mqa", func(c *model.Config, _ *attention.Config) { c.Layers, c.Context = 1, m.Config.Context }),
	} {
		d, err := NewDraftModel(other, OnCPU(), Options{Pages: pages}, 3, m)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = d
	}
	return all
}

func TestGreedySpeculationIsGreedy(t *testing.T) {
	for _, kind := range kinds {
		m := tiny(t, kind)
		for name, d := range drafters(t, m, 12) {
			r := rand.New(rand.NewPCG(8, 8))
			plain, guessing := newEngine(t, m, Options{Pages: 12, Chunk: 31}), newEngine(t, m, Options{Pages: 12, Chunk: 31, Drafter: d})
			var want, got []*Sequence
			for _, n := range []int{1, 70, 140} {
				q := Request{Prompt: randomTokens(r, n, m.Config.Vocab), MaxTokens: 50}
				want, got = append(want, submit(t, plain, q)), append(got, submit(t, guessing, q))
			}
			finish(t, plain)
			finish(t, guessing)
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
	m := tiny(t, "gta-2", small)
	draft, err := NewDraftModel(tiny(t, "mqa", small), OnCPU(), Options{Pages: 32}, 2, m)
	if err != nil {
		t.Fatal(err)
	}
	prompt, s := []int32{0, 1, 2, 0, 1}, Sampling{Temperature: 1.3, TopP: 0.97}
	exact := make([]float64, 27)
	for i := range exact {
		tokens, p := slices.Clone(prompt), 1.0
		for _, next := range []int32{int32(i / 9), int32(i / 3 % 3), int32(i % 3)} {
			y := forward(t, m, tokens)
			p *= s.odds(y[len(y)-3:], tokens)[next]
			tokens = append(tokens, next)
		}
		exact[i] = p
	}
	for name, d := range map[string]Drafter{"none": nil, "lookup": Lookup{2}, "smaller": draft} {
		e := newEngine(t, m, Options{Pages: 32, Rows: 32, Drafter: d})
		counts := make([]int, 27)
		for seed := range uint64(250) {
			var batch []*Sequence
			for i := range uint64(32) {
				s.Seed = 32*seed + i
				batch = append(batch, submit(t, e, Request{Prompt: prompt, MaxTokens: 3, Sampling: s}))
			}
			finish(t, e)
			for _, q := range batch {
				o := q.Output()
				counts[o[0]*9+o[1]*3+o[2]]++
			}
		}
		if x := chiSquared(counts, exact); x > 4 || math.IsNaN(x) {
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
	m, other := tiny(t, "gla-2"), tiny(t, "gqa-2", func(c *model.Config, _ *attention.Config) { c.Layers = 1 })
	d, err := NewDraftModel(other, OnCPU(), Options{Pages: 4}, 3, m)
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, m, Options{Pages: 4, Drafter: d})
	s := submit(t, e, Request{Prompt: []int32{3, 1, 4, 1, 5}, MaxTokens: 30, Sampling: Sampling{Temperature: 1, Seed: 3}})
	for e.Busy() {
		e.Admit()
		if err := e.propose(); err != nil {
			t.Fatal(err)
		}
		text := slices.Clone(s.Tokens)
		for i, guess := range s.guesses {
			y := forward(t, other, text)
			for token, p := range s.odds(y[len(y)-m.Config.Vocab:], text) {
				if math.Abs(p-s.chances[i][token]) > 1e-4 {
					t.Fatalf("guess %d after %v: token %d has %g, not %g", i, text, token, s.chances[i][token], p)
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
	m := tiny(t, "mqa")
	other := tiny(t, "mqa", func(c *model.Config, _ *attention.Config) { c.Vocab = 40 })
	named := *m
	named.Tokenizer = "gpt2"
	for want, f := range map[string]func() (*DraftModel, error){
		`decode: the draft model has tokenizer "" with 40 tokens, the model "" with 37: they must be the same`: func() (*DraftModel, error) {
			return NewDraftModel(other, OnCPU(), Options{Pages: 1}, 1, m)
		},
		`decode: the draft model has tokenizer "gpt2" with 37 tokens, the model "" with 37: they must be the same`: func() (*DraftModel, error) {
			return NewDraftModel(&named, OnCPU(), Options{Pages: 1}, 1, m)
		},
		"decode: a draft model must guess at least one token, not 0": func() (*DraftModel, error) { return NewDraftModel(m, OnCPU(), Options{Pages: 1}, 0, m) },
	} {
		if _, err := f(); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
