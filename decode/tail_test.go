package decode_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
	"headroom/model"
)

// long is Windowed with room for texts of many windows.
func long(t *testing.T, kind string, window int) *decode.Model {
	t.Helper()
	m := decodetest.Windowed(t, kind, window)
	m.Config.Context = 1000
	return m
}

// openTailed is an engine whose device has pools as large as the options say. Some let passes run ahead.
func openTailed(t *testing.T, m *decode.Model, o decode.Options, runAhead bool) *decode.Engine {
	t.Helper()
	l, err := o.Limits(m)
	if err != nil {
		t.Fatal(err)
	}
	d, err := host.New().Open(m, l)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.CacheBytes(), decode.Pool(m.Transformer, l.Pages, l.Tail, attention.FP32).Bytes; got != want {
		t.Errorf("the device takes %d bytes, its pools %d", got, want)
	}
	if runAhead {
		d = ahead{d}
	}
	e, err := decode.NewEngine(m, d, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// isGreedy holds a text against one pass over all of it: each new token must be the likeliest, or as likely.
func isGreedy(t *testing.T, what string, m *decode.Model, s *decode.Sequence) {
	t.Helper()
	if len(s.Output()) == 0 {
		return
	}
	y, V := decodetest.Forward(t, m, s.Tokens[:len(s.Tokens)-1]), m.Config.Vocab
	for i := len(s.Prompt); i < len(s.Tokens); i++ {
		row := y[(i-1)*V : i*V]
		if row[s.Tokens[i]] < slices.Max(row)-1e-3 {
			t.Errorf("%s: token %d of a prompt of %d is %d with %g, the likeliest has %g", what, i, len(s.Prompt), s.Tokens[i],
				row[s.Tokens[i]], slices.Max(row))
			return
		}
	}
}

// TestTailsUnderPressure lets long requests with few beginnings come, be cancelled and push each other's pages out,
// with pools too small for all of them, plainly, with guesses and with passes that run ahead.
func TestTailsUnderPressure(t *testing.T) {
	for i, c := range []struct {
		kind   string
		window int
		o      decode.Options
		draft  bool
	}{
		{"gqa-2", 70, decode.Options{Pages: 40, Rows: 4, Chunk: 300}, false},
		{"gta-2", 1, decode.Options{Pages: 31, Tail: 13, Rows: 5, Chunk: 700}, false},
		{"mla", 64, decode.Options{Pages: 33, Tail: 9, Rows: 4, Chunk: 900, Drafter: decode.Lookup{Guesses: 3}}, false},
		{"gla-2", 129, decode.Options{Pages: 40, Tail: 17, Rows: 4, Chunk: 300}, true},
	} {
		m := long(t, c.kind, c.window)
		if c.draft {
			d, err := decode.NewDraftModel(long(t, "mqa", 40), host.New(), decode.Options{Pages: c.o.Pages}, 3, m)
			if err != nil {
				t.Fatal(err)
			}
			c.o.Drafter = d
		}
		what := fmt.Sprintf("%s in a window of %d", c.kind, c.window)
		r := rand.New(rand.NewPCG(4, uint64(i)))
		e := openTailed(t, m, c.o, i%2 == 0)
		begins := [][]int32{decodetest.Tokens(r, 600, m.Config.Vocab), decodetest.Tokens(r, 600, m.Config.Vocab)}
		var all []*decode.Sequence
		const requests = 30
		for len(all) < requests || e.Busy() {
			if len(all) < requests && r.IntN(3) == 0 {
				prompt := append(slices.Clone(begins[r.IntN(2)][:1+r.IntN(600)]),
					decodetest.Tokens(r, r.IntN(80), m.Config.Vocab)...)
				all = append(all, decodetest.Submit(t, e, decode.Request{Prompt: prompt, MaxTokens: 1 + r.IntN(150)}))
			}
			if r.IntN(60) == 0 && len(all) > 0 {
				e.Cancel(all[r.IntN(len(all))])
			}
			if err := e.Step(); err != nil {
				t.Fatal(err)
			}
			counted, users, bound := e.TailUsers()
			if !slices.Equal(counted, users) || bound > e.Usage().Tail {
				t.Fatalf("%s: users %v are counted as %v; %d pages are had or promised, of %d", what, users, counted, bound,
					e.Usage().Tail)
			}
		}
		decodetest.Finish(t, e)
		if known, kept := e.KnownTails(); known != kept {
			t.Errorf("%s: %d pages are known and %d kept", what, known, kept)
		}
		if shares := e.Counts.Shared > 0; shares == c.draft {
			t.Errorf("%s: %+v", what, e.Counts)
		}
		for _, s := range all {
			isGreedy(t, what, m, s)
		}
	}
}

// TestTailIsAllThatIsKept: a request that runs alone has no more pages in layers with windows than it is promised, and
// gives back every one that lies behind the window, though the pool has more.
func TestTailIsAllThatIsKept(t *testing.T) {
	const window = 100
	m := long(t, "gqa-2", window)
	e := openTailed(t, m, decode.Options{Pages: 20, Rows: 1, Chunk: 100}, false)
	prompt := decodetest.Tokens(rand.New(rand.NewPCG(1, 1)), 700, m.Config.Vocab)
	s := decodetest.Submit(t, e, decode.Request{Prompt: prompt, MaxTokens: 200})
	for e.Busy() {
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
		want := decode.PagesFor(s.Cached()) - max(0, s.Cached()-window+1)/decode.PageTokens
		if u := e.Usage(); s.Reason == decode.Running && u.TailUsed != want {
			t.Fatalf("with %d tokens in the cache it has %d pages of window layers, not %d", s.Cached(), u.TailUsed, want)
		}
	}
	if u := e.Usage(); u.Tail != decode.PagesFor(window+256)+1 || u.Pages != 20 {
		t.Errorf("%+v", u)
	}
	isGreedy(t, "alone", m, s)
}

// TestTailIsShared: a prompt shares what another began with, as long as the end of that is known in layers with windows
// too; where it has been pushed out, a shorter beginning is shared or none.
func TestTailIsShared(t *testing.T) {
	const window = 130
	m := long(t, "gta-2", window)
	r := rand.New(rand.NewPCG(1, 1))
	e := openTailed(t, m, decode.Options{Pages: 60, Tail: 16, Rows: 4, Chunk: 300}, false)
	begin := decodetest.Tokens(r, 640, m.Config.Vocab)
	ask := func(prompt []int32) *decode.Sequence {
		s := decodetest.Submit(t, e, decode.Request{Prompt: prompt, MaxTokens: 2})
		decodetest.Finish(t, e)
		isGreedy(t, "shared", m, s)
		return s
	}
	first := ask(begin)
	if first.Shared != 0 {
		t.Errorf("the first shares %d", first.Shared)
	}
	if s := ask(append(slices.Clone(begin), 1, 2, 3)); s.Shared != 640 {
		t.Errorf("the same beginning shares %d tokens of 640", s.Shared)
	}
	if s := ask(begin[:257]); s.Shared != 256 {
		t.Errorf("a shorter beginning shares %d tokens of 256", s.Shared)
	}
	for range 2 { // they push pages out
		if s := ask(decodetest.Tokens(r, 900, m.Config.Vocab)); s.Shared != 0 {
			t.Errorf("another text shares %d", s.Shared)
		}
	}
	if s := ask(append(slices.Clone(begin), 1, 2, 3)); s.Shared%decode.PageTokens != 0 || s.Shared >= 640 {
		t.Errorf("with a tail that was pushed out it shares %d tokens", s.Shared)
	}
}

// TestFitWithWindows: the pools fill the bytes that are said and no more; requests that are said to fit run at once.
func TestFitWithWindows(t *testing.T) {
	for _, pattern := range []attention.Pattern{"window,window,window,full", "window"} {
		m := decodetest.Tiny(t, "gqa-2", func(c *model.Config, a *attention.Config) {
			c.Layers, c.Context, a.Window, a.Pattern = 4, 4000, 100, pattern
		})
		for _, bytes := range []int64{1, 1 << 18, 1 << 20, 10 << 20, 100 << 20} {
			for _, rows := range []int{1, 8} {
				fit := decode.Fit(m.Transformer, rows, bytes, attention.FP32)
				page := decode.BytesFor(m.Transformer, 1, attention.FP32)
				full := pattern != "window"
				if fit.Bytes > bytes || full && bytes-fit.Bytes >= page {
					t.Errorf("%s, %d rows: %+v in %d bytes", pattern, rows, fit, bytes)
				}
				n := min(fit.Batch(2000), rows)
				if n == 0 {
					continue
				}
				e := openTailed(t, m, decode.Options{Pages: fit.Pages, Tail: fit.Tail, Rows: rows}, false)
				for range n {
					decodetest.Submit(t, e, decode.Request{Prompt: make([]int32, 1999), MaxTokens: 1})
				}
				if e.Admit(); e.Usage().Running != n {
					t.Errorf("%s: %d of %d requests run", pattern, e.Usage().Running, n)
				}
			}
		}
	}
	m := decodetest.Tiny(t, "gqa-2", func(c *model.Config, a *attention.Config) {
		c.Layers, c.Context, a.Window, a.Pattern = 4, 8192, 512, "window,window,window,full"
	})
	whole := 128 * decode.PageTokens * int64(m.CacheBytes(1, attention.FP32))
	got := decode.BytesFor(m.Transformer, 8192, attention.FP32)
	if want := whole/4 + 3*whole/4*13/128; got != want { // of 12 pages and one
		t.Errorf("a request of 8,192 tokens takes %d bytes, not %d of %d", got, want, whole)
	}
	for _, S := range []int{100, 3000} {
		r := rationed{host.New(), 50 << 20, 0}
		largest, err := decode.Largest(m, r, decode.Options{}, S)
		one := decode.BytesFor(m.Transformer, S, attention.FP32)
		if err != nil || int64(largest)*one > r.bytes || int64(largest+2)*one <= r.bytes {
			t.Errorf("%d requests of %d tokens and %d bytes are said to fit in %d (%v)", largest, S, one, r.bytes, err)
		}
	}
}
