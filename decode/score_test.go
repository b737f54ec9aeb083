package decode_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"headroom/decode"
	"headroom/decode/decodetest"
)

// TestScores holds the scores of prompts and of what comes, in mixed batches and small chunks, against the plain pass.
func TestScores(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		m := decodetest.Tiny(t, kind)
		V := m.Config.Vocab
		r := rand.New(rand.NewPCG(5, 5))
		for _, o := range []decode.Options{{Pages: 31, Rows: 6, Chunk: 50, Scored: 17},
			{Pages: 20, Rows: 3, Chunk: 9, Scored: 64, Drafter: decode.Lookup{3}}} {
			e := newEngine(t, m, o)
			var all []*decode.Sequence
			for i := range 12 {
				q := decode.Request{Prompt: decodetest.Tokens(r, 1+r.IntN(100), V), MaxTokens: i % 4, Score: i%5 > 0, Top: i % 3}
				q.Echo = q.MaxTokens == 0
				q.Score = q.Score || q.Echo
				q.Echo = q.Score && (q.Echo || i%2 == 0)
				if !q.Score {
					q.Top = 0
				}
				if i%4 == 3 {
					q.Sampling = decode.Sampling{Temperature: 1, Seed: uint64(i)}
				}
				all = append(all, decodetest.Submit(t, e, q))
			}
			decodetest.Finish(t, e)
			for _, s := range all {
				checkScores(t, m, s)
			}
		}
	}
}

func checkScores(t *testing.T, m *decode.Model, s *decode.Sequence) {
	t.Helper()
	want := 0
	if s.Score {
		want = len(s.Output())
	}
	if s.Echo {
		want = len(s.Tokens) - 1
	}
	if len(s.Scores) != want || len(s.Output()) > s.MaxTokens {
		t.Fatalf("%d scores and %d new tokens of a prompt of %d, %+v", len(s.Scores), len(s.Output()),
			len(s.Prompt), s.Request)
	}
	if want == 0 {
		return
	}
	y, V := decodetest.Forward(t, m, s.Tokens), m.Config.Vocab
	for i, score := range s.Scores {
		at := len(s.Tokens) - len(s.Scores) + i // of the token
		row := y[(at-1)*V : at*V]
		var sum float64
		for _, l := range row {
			sum += math.Exp(float64(l))
		}
		near := func(got float32, token int32) {
			if want := float64(row[token]) - math.Log(sum); math.Abs(float64(got)-want) > 1e-4 {
				t.Fatalf("token %d at %d has %v, plainly %v", token, at, got, want)
			}
		}
		near(score.LogProb, s.Tokens[at])
		if len(score.Top) != s.Top {
			t.Fatalf("%d likeliest, not %d", len(score.Top), s.Top)
		}
		for j, g := range score.Top {
			near(g.LogProb, g.Token)
			if g.Token == s.Tokens[at] && g.LogProb != score.LogProb || j > 0 && g.LogProb > score.Top[j-1].LogProb ||
				g.LogProb < score.LogProb && j == 0 {
				t.Fatalf("top %+v beside %v of token %d", score.Top, score.LogProb, s.Tokens[at])
			}
		}
	}
}
