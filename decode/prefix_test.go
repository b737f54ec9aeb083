package decode_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/decode"
	"headroom/decode/decodetest"
)

// TestPrefixIsShared asks for the same beginning again and again, while it is in work and after.
func TestPrefixIsShared(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		m := decodetest.Tiny(t, kind)
		r := rand.New(rand.NewPCG(8, 8))
		e := newEngine(t, m, decode.Options{Pages: 13, Rows: 3, Chunk: 64})
		begin := decodetest.Tokens(r, 130, m.Config.Vocab)
		var all []*decode.Sequence
		ask := func(prompt []int32, shared int) {
			s := decodetest.Submit(t, e, decode.Request{Prompt: prompt, MaxTokens: 5})
			all = append(all, s)
			for len(s.Output()) == 0 {
				if err := e.Step(); err != nil {
					t.Fatal(err)
				}
			}
			if s.Shared != shared {
				t.Errorf("%s: a prompt of %d tokens shares %d, not %d", kind, len(prompt), s.Shared, shared)
			}
		}
		ask(begin, 0)
		ask(append(slices.Clone(begin), 1, 2, 3), 128)
		ask(begin[:128], 64) // its last token is computed anyway
		ask(begin[:40], 0)
		decodetest.Finish(t, e)
		if u := e.Usage(); u.Kept < 2 || u.Used != 0 || u.Pages != 13 || u.Running+u.Waiting != 0 {
			t.Errorf("%+v", u)
		}
		ask(begin, 128)
		ask(append([]int32{begin[0] ^ 1}, begin[1:]...), 0)
		decodetest.Finish(t, e)
		for i, s := range all {
			if want := plainly(t, m, s.Request); !slices.Equal(s.Output(), want) {
				t.Errorf("%s: request %d: %v, plainly %v", kind, i, s.Output(), want)
			}
		}
		if want := 128 + 64 + 128; e.Counts.Shared != want || e.Counts.Prompt != 130+133+128+40+130+130 {
			t.Errorf("%+v", e.Counts)
		}
	}
}

// TestSharedPagesUnderPressure lets requests with few beginnings come, be cancelled and push each other's pages out.
func TestSharedPagesUnderPressure(t *testing.T) {
	m := decodetest.Tiny(t, "gta-2")
	r := rand.New(rand.NewPCG(4, 2))
	for _, o := range []decode.Options{{Pages: 9, Rows: 4, Chunk: 40},
		{Pages: 8, Rows: 4, Chunk: 200, Drafter: decode.Lookup{3}}} {
		e := newEngine(t, m, o)
		begins := [][]int32{decodetest.Tokens(r, 150, m.Config.Vocab), decodetest.Tokens(r, 150, m.Config.Vocab),
			decodetest.Tokens(r, 150, m.Config.Vocab)}
		var all []*decode.Sequence
		for len(all) < 60 || e.Busy() {
			if len(all) < 60 && r.IntN(2) == 0 {
				prompt := append(slices.Clone(begins[r.IntN(3)][:1+r.IntN(150)]),
					decodetest.Tokens(r, r.IntN(20), m.Config.Vocab)...)
				all = append(all, decodetest.Submit(t, e, decode.Request{Prompt: prompt, MaxTokens: 1 + r.IntN(40)}))
			}
			if r.IntN(8) == 0 && len(all) > 0 {
				e.Cancel(all[r.IntN(len(all))])
			}
			if err := e.Step(); err != nil {
				t.Fatal(err)
			}
			counted, users := e.PageUsers()
			for i := range users {
				if counted[i] != users[i] {
					t.Fatalf("page %d has %d users and counts %d", i, users[i], counted[i])
				}
			}
		}
		decodetest.Finish(t, e)
		if e.Counts.Shared == 0 {
			t.Error("nothing was shared")
		}
		if known, kept := e.KnownPages(), e.Usage().Kept; known != kept {
			t.Errorf("%d pages are known and %d kept", known, kept)
		}
		for i, s := range all {
			want := plainly(t, m, s.Request)
			if s.Reason == decode.Cancelled {
				want = want[:len(s.Output())]
			}
			if !slices.Equal(s.Output(), want) {
				t.Errorf("request %d (%s): %v, plainly %v", i, s.Reason, s.Output(), want)
			}
		}
	}
}

// TestShortPromptsPassLongOnes lets a short prompt come behind two long ones: it does not wait for them, nor they for
// ever.
func TestShortPromptsPassLongOnes(t *testing.T) {
	m := decodetest.Tiny(t, "mla")
	r := rand.New(rand.NewPCG(4, 2))
	e := newEngine(t, m, decode.Options{Pages: 12, Rows: 3, Chunk: 20})
	long := []*decode.Sequence{
		decodetest.Submit(t, e, decode.Request{Prompt: decodetest.Tokens(r, 200, m.Config.Vocab), MaxTokens: 1}),
		decodetest.Submit(t, e, decode.Request{Prompt: decodetest.Tokens(r, 200, m.Config.Vocab), MaxTokens: 1}),
	}
	short := decodetest.Submit(t, e, decode.Request{Prompt: decodetest.Tokens(r, 10, m.Config.Vocab), MaxTokens: 3})
	var order []*decode.Sequence
	for e.Busy() {
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
		for _, s := range append(long, short) {
			if len(s.Output()) == 1 && !slices.Contains(order, s) {
				order = append(order, s)
			}
		}
		if len(short.Output()) == 1 && e.Counts.Passes != 1 {
			t.Errorf("the short prompt had its first token after %d passes", e.Counts.Passes)
		}
	}
	if !slices.Equal(order, []*decode.Sequence{short, long[0], long[1]}) {
		t.Errorf("first tokens came in the order %v", order)
	}
}

// scored asks for a prompt with scores, and runs until it has ended.
func scored(t *testing.T, e *decode.Engine, prompt []int32, tokens int) *decode.Sequence {
	t.Helper()
	s := decodetest.Submit(t, e, decode.Request{Prompt: prompt, MaxTokens: tokens, Score: true})
	decodetest.Finish(t, e)
	return s
}

// asFresh holds a sequence against the same request in an engine of its own.
func asFresh(t *testing.T, m *decode.Model, s *decode.Sequence, shared int) {
	t.Helper()
	if s.Shared != shared {
		t.Errorf("a prompt of %d tokens shares %d, not %d", len(s.Prompt), s.Shared, shared)
	}
	want := scored(t, newEngine(t, m, decode.Options{Pages: 20, Rows: 1}), s.Prompt, s.MaxTokens)
	if !slices.Equal(s.Output(), want.Output()) {
		t.Errorf("%v, in a fresh engine %v", s.Output(), want.Output())
		return
	}
	for i, x := range s.Scores {
		if d := x.LogProb - want.Scores[i].LogProb; d > 1e-4 || d < -1e-4 {
			t.Errorf("token %d: log probability %v, in a fresh engine %v", i, x.LogProb, want.Scores[i].LogProb)
		}
	}
}

// TestPageIsKnownByWhatLiesBefore: a page with the same tokens behind others holds another cache.
func TestPageIsKnownByWhatLiesBefore(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		m := decodetest.Tiny(t, kind)
		r := rand.New(rand.NewPCG(5, 1))
		X, Y, Z, W := decodetest.Tokens(r, 64, m.Config.Vocab), decodetest.Tokens(r, 64, m.Config.Vocab),
			decodetest.Tokens(r, 64, m.Config.Vocab), decodetest.Tokens(r, 64, m.Config.Vocab)
		for _, pages := range []int{12, 13} {
			e := newEngine(t, m, decode.Options{Pages: pages, Rows: 2, Chunk: 64})
			for _, c := range []struct {
				a, b   []int32
				shared int
			}{{X, Y, 0}, {Z, W, 0}, {Z, Y, 64}, {Y, X, 0}, {Z, Y, 128}, {X, Y, 128}, {X, W, 64}} {
				asFresh(t, m, scored(t, e, slices.Concat(c.a, c.b, []int32{1}), 6), c.shared)
			}
		}
	}
}

// TestPageIsKnownWhenItIsWritten: the token that came last is not in the cache yet, and that of a prompt not before its
// pass.
func TestPageIsKnownWhenItIsWritten(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		m := decodetest.Tiny(t, kind)
		for _, pages := range []int{12, 13} {
			e := newEngine(t, m, decode.Options{Pages: pages, Rows: 3, Chunk: 64})
			r := rand.New(rand.NewPCG(5, 2))
			// the 64th token ends the first, and is in no cache
			first := scored(t, e, decodetest.Tokens(r, 60, m.Config.Vocab), 4)
			asFresh(t, m, scored(t, e, append(slices.Clone(first.Tokens), 1, 2), 6), 0)
			second := scored(t, e, decodetest.Tokens(r, 60, m.Config.Vocab), 5) // the 64th is, for a 65th came
			asFresh(t, m, scored(t, e, append(slices.Clone(second.Tokens[:64]), 1, 2), 6), 64)
			prompt := decodetest.Tokens(r, 140, m.Config.Vocab)
			ask := func() *decode.Sequence {
				return decodetest.Submit(t, e, decode.Request{Prompt: prompt, MaxTokens: 6, Score: true})
			}
			at1, at2 := ask(), ask() // at once: neither has written anything
			for at1.Cached() < 64 {
				if err := e.Step(); err != nil {
					t.Fatal(err)
				}
			}
			at3 := ask() // one page is written, the other not
			decodetest.Finish(t, e)
			asFresh(t, m, at1, 0)
			asFresh(t, m, at2, 0)
			asFresh(t, m, at3, 64)
		}
	}
}
