package host_test

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

// A served is what an engine with a type of cache answers.
type served struct {
	cache attention.CacheType
	parts int
	with  decode.Options
}

func (s served) open(t *testing.T, m *decode.Model) *decode.Engine {
	t.Helper()
	e, err := decode.Open(m, host.Sharded(s.parts, s.cache), s.with)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// distance is the largest and the mean distance of the scores of the same tokens.
func distance(t *testing.T, a, b []decode.Score) (largest, mean float64) {
	t.Helper()
	if len(a) != len(b) || len(a) == 0 {
		t.Fatalf("%d scores and %d", len(a), len(b))
	}
	for i := range a {
		d := math.Abs(float64(a[i].LogProb - b[i].LogProb))
		if d != d {
			d = math.Inf(1)
		}
		largest, mean = max(largest, d), mean+d/float64(len(a))
	}
	return largest, mean
}

// score is the scores of texts as prompts.
func score(t *testing.T, e *decode.Engine, texts [][]int32) (scores []decode.Score) {
	t.Helper()
	var all []*decode.Sequence
	for _, x := range texts {
		all = append(all, decodetest.Submit(t, e, decode.Request{Prompt: x, Score: true, Echo: true}))
	}
	decodetest.Finish(t, e)
	for _, s := range all {
		scores = append(scores, s.Scores...)
	}
	return scores
}

// TestFP8InShards scores texts with an fp8 cache in 1, 2 and 4 parts. Sums in another order put single elements on the
// other side of a midpoint, so that the parts differ a little more than in float32, but far less than fp8 from float32.
func TestFP8InShards(t *testing.T) {
	o := decode.Options{Pages: 20, Rows: 5, Chunk: 30, Scored: 30}
	for _, kind := range append(slices.Clone(decodetest.Kinds), "gta-4", "gla-4", "gla_q-4") {
		m := decodetest.Tiny(t, kind, func(c *model.Config, a *attention.Config) { a.Heads, c.MLP = 8, 48 })
		r := rand.New(rand.NewPCG(2, 3))
		var texts [][]int32
		for range 8 {
			texts = append(texts, decodetest.Tokens(r, 2+r.IntN(90), m.Config.Vocab))
		}
		want := score(t, served{attention.FP8, 1, o}.open(t, m), texts)
		_, rounding := distance(t, want, score(t, served{attention.FP32, 1, o}.open(t, m), texts))
		for _, parts := range []int{2, 4} {
			largest, mean := distance(t, want, score(t, served{attention.FP8, parts, o}.open(t, m), texts))
			if !(mean < rounding/200) || !(largest < rounding) || rounding < 1e-3 {
				t.Errorf("%s in %d parts: scores differ by %g on average and %g at most; from float32's by %g", kind, parts, mean,
					largest, rounding)
			}
		}
	}
}

// sameGreedy says that two sequences went on alike, up to a place where two tokens are all but equally likely.
func sameGreedy(t *testing.T, what string, got, want *decode.Sequence) {
	t.Helper()
	a, b := got.Output(), want.Output()
	for i := range b {
		if i < len(a) && a[i] == b[i] {
			continue
		}
		if top := want.Scores[i].Top; i >= len(a) || top[0].LogProb-top[1].LogProb > 1e-2 {
			t.Errorf("%s: %v, plainly %v, from token %d on with %v", what, a, b, i, top)
		}
		return
	}
}

// TestFP8SharesPrefixes asks for prompts with the same beginning: pages that others filled are read as their own.
func TestFP8SharesPrefixes(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		m := decodetest.Tiny(t, kind)
		r := rand.New(rand.NewPCG(8, 8))
		o := decode.Options{Pages: 13, Rows: 3, Chunk: 64}
		begin := decodetest.Tokens(r, 130, m.Config.Vocab)
		e := served{attention.FP8, 1, o}.open(t, m)
		for _, more := range [][]int32{{1}, {2, 3}, {4}} {
			q := decode.Request{Prompt: append(slices.Clone(begin), more...), MaxTokens: 9, Score: true, Top: 2}
			fresh := served{attention.FP8, 1, o}.open(t, m)
			got, want := decodetest.Submit(t, e, q), decodetest.Submit(t, fresh, q)
			decodetest.Finish(t, e)
			decodetest.Finish(t, fresh)
			if shared := got.Shared; shared != 128 && more[0] != 1 {
				t.Errorf("%s: %d tokens are shared", kind, shared)
			}
			sameGreedy(t, kind, got, want)
		}
	}
}

// TestFP8Speculates holds greedy text with guesses against that without: a rejected guess leaves nothing in a page that
// another token's scale depends on.
func TestFP8Speculates(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		m := decodetest.Tiny(t, kind)
		o := decode.Options{Pages: 12, Chunk: 31}
		other := decodetest.Tiny(t, "mqa", func(c *model.Config, _ *attention.Config) { c.Layers = 1 })
		draft, err := decode.NewDraftModel(other, host.Sharded(1, attention.FP8), o, 3, m)
		if err != nil {
			t.Fatal(err)
		}
		for name, d := range map[string]decode.Drafter{"lookup": decode.Lookup{Guesses: 3}, "smaller": draft} {
			r := rand.New(rand.NewPCG(8, 9))
			guesses := o
			guesses.Drafter = d
			plain, guessing := served{attention.FP8, 1, o}.open(t, m), served{attention.FP8, 1, guesses}.open(t, m)
			var want, got []*decode.Sequence
			for _, n := range []int{1, 70, 140} {
				q := decode.Request{Prompt: decodetest.Tokens(r, n, m.Config.Vocab), MaxTokens: 50, Score: true, Top: 2}
				want, got = append(want, decodetest.Submit(t, plain, q)), append(got, decodetest.Submit(t, guessing, q))
			}
			decodetest.Finish(t, plain)
			decodetest.Finish(t, guessing)
			for i := range want {
				sameGreedy(t, kind+" by "+name, got[i], want[i])
			}
			if c := guessing.Counts; c.Drafted == 0 || c.Drafted == c.Accepted {
				t.Errorf("%s by %s: %+v says nothing", kind, name, c)
			}
		}
	}
}
