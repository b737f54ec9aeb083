//go:build gpu

package decode

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"headroom/attention"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/model"
)

// TestCUDARandom draws models, options and requests at random and holds what comes of them against the CPU: on paper in
// float32 and in bf16, on a GPU in float32.
func TestCUDARandom(t *testing.T) {
	test := func(seeds int) func(*testing.T, Backend) {
		return func(t *testing.T, on Backend) {
			for seed := range seeds {
				t.Run(strconv.Itoa(seed), func(t *testing.T) { checkRandom(t, on, uint64(seed)) })
			}
		}
	}
	everywhere(t, graph.F32, test(4))
	t.Run("paper in bf16", func(t *testing.T) { test(8)(t, onPaper(device.BF16)) })
}

// anyModel is a model of any kind, of dims that the fast kernels take or do not.
func anyModel(t *testing.T, r *rand.Rand, of func(*model.Config)) (*Model, string) {
	t.Helper()
	what := kinds[r.IntN(len(kinds))]
	m := tiny(t, what, func(c *model.Config, a *attention.Config) {
		c.Layers, c.Width, c.MLP, c.Vocab = 1+r.IntN(2), 16+8*r.IntN(8), 8+r.IntN(60), 30+r.IntN(300)
		c.Context, c.Tie = 20+r.IntN(200), r.IntN(2) == 0
		a.HeadDim = []int{8, 16, 64, 64, 64, 96, 128}[r.IntN(7)]
		a.RopeDim, a.Heads = 0, 2*(1+r.IntN(4))
		a.Bias = []string{"paper", "none"}[r.IntN(2)]
		of(c)
		what += fmt.Sprintf(" L%d C%d F%d V%d S%d tie %v, H%d D%d bias %s", c.Layers, c.Width, c.MLP, c.Vocab, c.Context, c.Tie, a.Heads, a.HeadDim, a.Bias)
	})
	return m, what
}

func checkRandom(t *testing.T, on Backend, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 77))
	m, what := anyModel(t, r, func(*model.Config) {})
	o := Options{Pages: pagesFor(m.Config.Context) + r.IntN(8), Rows: 1 + r.IntN(20), Chunk: 1 + r.IntN(80), EndOfText: int32(r.IntN(9)) - 4}
	if r.IntN(2) == 0 {
		o.Scored = 1 + r.IntN(50)
	}
	guesses, drafts := 1+r.IntN(8), r.IntN(4)
	draft := m
	if drafts == 0 {
		draft, _ = anyModel(t, r, func(c *model.Config) { c.Vocab = m.Config.Vocab })
	}
	what += fmt.Sprintf(", %+v, %d guesses of %d", o, guesses, drafts)
	var all [2][]*Sequence
	for i, b := range []Backend{OnCPU(), on} {
		o := o
		switch drafts {
		case 0:
			d, err := NewDraftModel(draft, b, o, guesses, m)
			if err != nil {
				t.Fatal(what, err)
			}
			o.Drafter = d
		case 1:
			o.Drafter = Lookup{guesses}
		}
		e, err := Open(m, b, o)
		if err != nil {
			t.Fatal(what, err)
		}
		all[i] = anyRequests(t, e, rand.New(rand.NewPCG(seed, 78)))
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	for i, want := range all[0] {
		got := all[1][i]
		if want.Reason == Cancelled || got.Reason == Cancelled { // a GPU may be a token ahead, or behind
			want.Reason, got.Reason = Cancelled, Cancelled
			n := min(len(got.Tokens), len(want.Tokens))
			got.Tokens, want.Tokens = got.Tokens[:n], want.Tokens[:n]
			n = min(len(got.Scores), len(want.Scores))
			got.Scores, want.Scores = got.Scores[:n], want.Scores[:n]
		}
		if !slices.Equal(got.Output(), want.Output()) || got.Reason != want.Reason || len(got.Scores) != len(want.Scores) {
			t.Fatalf("%s: request %d: %v (%s), on the CPU %v (%s)", what, i, got.Output(), got.Reason, want.Output(), want.Reason)
		}
		for j, s := range want.Scores {
			if d := math.Abs(float64(got.Scores[j].LogProb - s.LogProb)); !(d < 1e-3) {
				t.Fatalf("%s: request %d, score %d: %v, on the CPU %v", what, i, j, got.Scores[j].LogProb, s.LogProb)
			}
		}
	}
}

// anyRequests serves requests that come and are cancelled at random.
func anyRequests(t *testing.T, e *Engine, r *rand.Rand) (all []*Sequence) {
	t.Helper()
	V, S := e.model.Config.Vocab, e.model.Config.Context
	begin := randomTokens(r, S, V)
	n := 10 + r.IntN(20)
	short := r.IntN(3) == 0
	for len(all) < n || e.Busy() {
		for len(all) < n && (short || r.IntN(3) == 0) {
			most := S - 1
			if short {
				most = min(most, 8)
			}
			q := Request{Prompt: randomTokens(r, 1+r.IntN(most), V), MaxTokens: 1 + r.IntN(20), Score: r.IntN(3) == 0}
			if q.Score && e.options.Scored > 0 && r.IntN(2) == 0 {
				q.Echo, q.MaxTokens = true, q.MaxTokens*r.IntN(2)
			}
			if r.IntN(2) == 0 { // begins like others
				copy(q.Prompt, begin[:r.IntN(S)])
			}
			if r.IntN(2) == 0 {
				q.Sampling = Sampling{Temperature: 0.2 + r.Float64(), TopK: r.IntN(30), TopP: r.Float64(), MinP: r.Float64() / 9, Repetition: float64(r.IntN(3)) / 1.6, Seed: r.Uint64()}
			}
			all = append(all, submit(t, e, q))
		}
		if r.IntN(30) == 0 && len(all) > 0 {
			e.Cancel(all[r.IntN(len(all))])
		}
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
	}
	if e.FreePages() != e.options.Pages {
		t.Fatalf("%d of %d pages came back", e.FreePages(), e.options.Pages)
	}
	return all
}
