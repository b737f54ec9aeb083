package decode_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
	"headroom/model"
)

// ahead lets passes be started before the tokens of the last are known, as a GPU does. It gains nothing here, since
// passes run when they are started.
type ahead struct{ decode.Device }

func (ahead) Ahead(decode.Sampling) bool { return true }

func newEngine(t *testing.T, m *decode.Model, o decode.Options) *decode.Engine {
	t.Helper()
	d := decode.Device(host.NewDevice(m, o.Pages))
	if o.Pages%2 == 1 { // in half of the tests
		d = ahead{d}
	}
	e, err := decode.NewEngine(m, d, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// plainly goes on from a prompt by the training pass alone, over everything again for each token.
func plainly(t *testing.T, m *decode.Model, r decode.Request) []int32 {
	t.Helper()
	tokens, random := slices.Clone(r.Prompt), rand.New(rand.NewPCG(r.Seed, 0))
	for range min(r.MaxTokens, m.Config.Context-len(r.Prompt)) {
		y := decodetest.Forward(t, m, tokens)
		tokens = append(tokens, decode.DrawAt(random.Float64(), r.Odds(y[len(y)-m.Config.Vocab:], tokens)))
	}
	return tokens[len(r.Prompt):]
}

// TestRowsJoinAndLeave holds requests that come, go and are cancelled at random, in a pool too small for all of them,
// against the plain pass.
func TestRowsJoinAndLeave(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		m := decodetest.Tiny(t, kind, func(c *model.Config, _ *attention.Config) { c.Context = 90 })
		r := rand.New(rand.NewPCG(11, uint64(kind[0])))
		e := newEngine(t, m, decode.Options{Pages: 5, Rows: 4, Chunk: 13})
		var all []*decode.Sequence
		for len(all) < 12 || e.Busy() {
			if len(all) < 12 && r.IntN(3) == 0 {
				q := decode.Request{Prompt: decodetest.Tokens(r, 1+r.IntN(80), m.Config.Vocab), MaxTokens: 1 + r.IntN(20)}
				if r.IntN(2) == 0 {
					q.Sampling = decode.Sampling{Temperature: 1, TopK: 20, TopP: 0.9, MinP: 0.01, Repetition: 1.2, Seed: r.Uint64()}
				}
				all = append(all, decodetest.Submit(t, e, q))
			}
			if r.IntN(40) == 0 && len(all) > 0 {
				e.Cancel(all[r.IntN(len(all))])
			}
			if err := e.Step(); err != nil {
				t.Fatal(err)
			}
		}
		decodetest.Finish(t, e)
		for i, s := range all {
			want := plainly(t, m, s.Request)
			if s.Reason == decode.Cancelled {
				want = want[:len(s.Output())]
			}
			if !slices.Equal(s.Output(), want) {
				t.Errorf("%s: request %d (%s): %v, plainly %v", kind, i, s.Reason, s.Output(), want)
			}
		}
	}
}

func TestRowAloneEqualsRowInBatch(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		m := decodetest.Tiny(t, kind)
		r := rand.New(rand.NewPCG(2, 9))
		d, p := host.NewDevice(m, 20), decodetest.Scattered(r, 20)
		tokens := decodetest.Tokens(r, 100, m.Config.Vocab)
		var alone, batch decode.Batch
		first := p.Take(t, 2*decode.PageTokens)
		alone.Add(first, 0, tokens, 1)
		for n := range 5 {
			pages := p.Take(t, 2*decode.PageTokens)
			part := tokens
			if n != 3 {
				part = decodetest.Tokens(r, 1+r.IntN(120), m.Config.Vocab)
			}
			batch.Add(pages, 0, part, 1)
		}
		y, z := decodetest.Pass(t, d, alone), decodetest.Pass(t, d, batch)
		decodetest.Near(t, kind, z[3*m.Config.Vocab:4*m.Config.Vocab], y)
	}
}

// TestPagesComeBack lets 10,000 requests come and be cancelled at random, with guesses, and with passes that are
// started before the tokens of the last are known.
func TestPagesComeBack(t *testing.T) {
	m := decodetest.Tiny(t, "gta-2", func(c *model.Config, _ *attention.Config) {
		c.Layers, c.Width, c.MLP,
			c.Context = 1, 16, 16, 200
	})
	draft, err := decode.NewDraftModel(m, host.New(), decode.Options{Pages: 9}, 2, m)
	if err != nil {
		t.Fatal(err)
	}
	for name, drafter := range map[string]decode.Drafter{"guesses": draft, "ahead": nil} {
		e := newEngine(t, m, decode.Options{Pages: 9, Rows: 6, Chunk: 200, Ends: []int32{5}, Drafter: drafter,
			Vocabulary: decodetest.Letters{}})
		decodetest.ComeAndGo(t, m, e, name, 5000)
	}
}

// TestFitIsTrue fills a pool with as many requests of a context as it is said to hold, and finds no room for one more.
func TestFitIsTrue(t *testing.T) {
	m := decodetest.Tiny(t, "mla")
	fit := decode.Fit(m.Transformer, 1, 300000, attention.FP32)
	for _, context := range []int{1, 64, 65, 200} {
		e := newEngine(t, m, decode.Options{Pages: fit.Pages, Rows: 1000})
		n := fit.Batch(context)
		for range n + 1 {
			decodetest.Submit(t, e, decode.Request{Prompt: make([]int32, max(1, context-1)), MaxTokens: 1})
		}
		e.Admit()
		if u := e.Usage(); u.Running != n || context > 1 && u.Waiting != 1 {
			t.Errorf("context %d: %d run and %d wait, %d are said to fit", context, u.Running, u.Waiting, n)
		}
	}
}

// rationed is a backend with so many bytes, of which each row of a pass takes some.
type rationed struct {
	decode.Backend
	bytes, row int64
}

func (r rationed) Available(_ *decode.Model, l decode.Limits) (int64, error) {
	return max(0, r.bytes-r.row*int64(l.Rows)), nil
}

// TestLargestIsTrue holds the largest batch against trying all.
func TestLargestIsTrue(t *testing.T) {
	m := decodetest.Tiny(t, "gqa-2")
	page := decode.BytesFor(m.Transformer, 1, attention.FP32)
	for _, r := range []rationed{{bytes: 0}, {bytes: page - 1}, {bytes: page}, {bytes: 40*page + 7},
		{bytes: 41 * page, row: 3 * page}, {bytes: 1 << 30, row: 12345}} {
		r.Backend = host.New()
		for _, S := range []int{1, 64, 65, 256} {
			want := 0
			for b := int64(1); b*int64(decode.PagesFor(S))*page+b*r.row <= r.bytes; b++ {
				want++
			}
			if got, err := decode.Largest(m, r, decode.Options{}, S); got != want || err != nil {
				t.Errorf("%+v: %d requests of %d tokens (%v), %d fit", r, got, S, err, want)
			}
		}
	}
}

// TestBadRequests refuses each in one line, and serves another request as if nothing were.
func TestBadRequests(t *testing.T) {
	m := decodetest.Tiny(t, "gqa-2")
	e := newEngine(t, m, decode.Options{Pages: 2})
	good := decodetest.Submit(t, e, decode.Request{Prompt: []int32{1, 2, 3}, MaxTokens: 8})
	one := []int32{1}
	for _, c := range []struct {
		r    decode.Request
		want string
	}{
		{decode.Request{MaxTokens: 1}, "decode: the prompt is empty"},
		{decode.Request{Prompt: make([]int32, 256), MaxTokens: 1},
			"decode: a prompt of 256 tokens leaves no room in the model's context of 256"},
		{decode.Request{Prompt: []int32{1, 37}, MaxTokens: 1}, "decode: token 37 at position 1 is none of the model's 37"},
		{decode.Request{Prompt: []int32{-1}, MaxTokens: 1}, "decode: token -1 at position 0 is none of the model's 37"},
		{decode.Request{Prompt: make([]int32, 128), MaxTokens: 1},
			"decode: 129 tokens need 3 pages of the cache, the pool has 2"},
		{decode.Request{Prompt: one}, "decode: at least one new token must be asked for, not 0"},
		{decode.Request{Prompt: one, Echo: true, Score: true}, "decode: this engine scores no prompts"},
		{decode.Request{Prompt: one, MaxTokens: 1, Top: 2},
			"decode: scores of the prompt and the 2 likeliest tokens come only with scores"},
		{decode.Request{Prompt: one, MaxTokens: 1, Stop: []string{"x"}}, "decode: stop strings need a vocabulary"},
		{decode.Request{Prompt: one, MaxTokens: 1, Sampling: decode.Sampling{Temperature: -1}},
			"decode: temperature must be from 0 to 100, it is -1"},
		{decode.Request{Prompt: one, MaxTokens: 1, Sampling: decode.Sampling{TopP: 2}},
			"decode: top-p must be from 0 to 1, it is 2"},
		{decode.Request{Prompt: one, MaxTokens: 1, Sampling: decode.Sampling{TopK: -2}},
			"decode: top-k must not be negative, it is -2"},
		{decode.Request{Prompt: one, MaxTokens: 1, Sampling: decode.Sampling{MinP: 1.5}},
			"decode: min-p must be from 0 to 1, it is 1.5"},
		{decode.Request{Prompt: one, MaxTokens: 1, Sampling: decode.Sampling{Repetition: -1}},
			"decode: the repetition penalty must be from 0 to 100, it is -1"},
	} {
		if s, err := e.Submit(c.r); s != nil || err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
	}
	decodetest.Finish(t, e)
	if want := plainly(t, m, good.Request); !slices.Equal(good.Output(), want) {
		t.Errorf("the good request got %v, not %v", good.Output(), want)
	}
	if _, err := decode.NewEngine(m, nil, decode.Options{}); err == nil ||
		!strings.HasPrefix(err.Error(), "decode: the cache pool must have at least one page") {
		t.Errorf("no pages: %v", err)
	}
}

// placed notes in which row each request of one new token stands.
type placed struct {
	decode.Device
	rows  map[int]*int32 // the pages, by row
	moved int            // rows that got other pages than they had in the pass before
	steps int            // such rows in the last pass
}

func (p *placed) Pass(b decode.Batch) error {
	p.moved, p.steps = 0, 0
	for i, r := range b.Rows {
		if r.T > 1 {
			break
		}
		if p.steps++; p.rows[i] != &r.Pages[0] {
			p.moved++
			p.rows[i] = &r.Pages[0]
		}
	}
	return p.Device.Pass(b)
}

// TestRowsStay: requests keep their rows while others come and go, for a device holds the pages of each row. No more
// rows change hands than requests have left and come.
func TestRowsStay(t *testing.T) {
	m := decodetest.Tiny(t, "gqa-2")
	r := rand.New(rand.NewPCG(3, 3))
	d := &placed{Device: host.NewDevice(m, 40), rows: map[int]*int32{}}
	e, err := decode.NewEngine(m, d, decode.Options{Pages: 40, Rows: 16, Chunk: 20})
	if err != nil {
		t.Fatal(err)
	}
	var all []*decode.Sequence
	running := map[*decode.Sequence]bool{} // those that had one new token in the last pass
	most, moved := 0, 0
	for len(all) < 80 || e.Busy() {
		for len(all) < 80 && e.Usage().Running+e.Usage().Waiting < 16 {
			all = append(all, decodetest.Submit(t, e, decode.Request{Prompt: decodetest.Tokens(r, 1+r.IntN(30), m.Config.Vocab),
				MaxTokens: 5 + r.IntN(30)}))
		}
		var now []*decode.Sequence
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		sequences, rows := e.Flying()
		for i, s := range sequences {
			if rows[i].T == 1 {
				now = append(now, s)
			}
		}
		changes := 0
		for _, s := range now {
			if !running[s] {
				changes++
			}
		}
		changes += len(running) - (len(now) - changes) // those that left
		if moved += d.moved; d.moved > changes {
			t.Fatalf("%d of %d rows moved, though only %d requests came or left", d.moved, d.steps, changes)
		}
		clear(running)
		for _, s := range now {
			running[s] = true
		}
		most = max(most, len(now))
		if err := e.Land(); err != nil {
			t.Fatal(err)
		}
	}
	if most < 10 || moved < 80 {
		t.Errorf("at most %d requests stepped at once, and %d rows moved: too few to tell anything", most, moved)
	}
}
