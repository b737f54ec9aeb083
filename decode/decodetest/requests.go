package decodetest

import (
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/decode"
)

// Letters is a vocabulary of the letters from A on.
type Letters struct{}

// Decode is the text of tokens.
func (Letters) Decode(ids []int32) ([]byte, error) {
	var b []byte
	for _, id := range ids {
		b = append(b, byte('A'+id))
	}
	return b, nil
}

// Submit gives an engine a request that it must take.
func Submit(t testing.TB, e *decode.Engine, r decode.Request) *decode.Sequence {
	t.Helper()
	s, err := e.Submit(r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Finish steps until all requests are served. All pages must come back.
func Finish(t testing.TB, e *decode.Engine) {
	t.Helper()
	for e.Busy() {
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
	}
	AllBack(t, e)
}

// AllBack says that nobody has a page.
func AllBack(t testing.TB, e *decode.Engine) {
	t.Helper()
	if u := e.Usage(); u.Used+u.TailUsed != 0 || e.FreePages() != u.Pages {
		t.Fatalf("%d of %d pages came back", e.FreePages(), u.Pages)
	}
}

// ComeAndGo lets n requests come and be cancelled at random; some must end in each way, and all pages come back.
func ComeAndGo(t testing.TB, m *decode.Model, e *decode.Engine, name string, n int) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	reasons := map[decode.Reason]int{}
	var open []*decode.Sequence
	for i := range n {
		q := decode.Request{Prompt: Tokens(r, 1+r.IntN(70), m.Config.Vocab), MaxTokens: 1 + r.IntN(70), Stop: []string{"B"}}
		if r.IntN(3) > 0 {
			q.Sampling = decode.Sampling{Temperature: 1, Seed: r.Uint64()}
		}
		open = append(open, Submit(t, e, q))
		for len(open) > 8 || i == n-1 && len(open) > 0 {
			if r.IntN(8) == 0 {
				e.Cancel(open[r.IntN(len(open))])
			}
			if err := e.Step(); err != nil {
				t.Fatal(err)
			}
			open = slices.DeleteFunc(open, func(s *decode.Sequence) bool {
				reasons[s.Reason]++
				return s.Reason != decode.Running
			})
		}
	}
	Finish(t, e)
	for _, why := range []decode.Reason{decode.Ended, decode.Stopped, decode.Full, decode.Cancelled} {
		if reasons[why] == 0 {
			t.Errorf("%s: no request ended by %q: %v", name, why, reasons)
		}
	}
}
