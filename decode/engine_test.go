package decode

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/model"
)

// letters is a vocabulary of the letters from A on.
type letters struct{}

func (letters) Decode(ids []int32) ([]byte, error) {
	var b []byte
	for _, id := range ids {
		b = append(b, byte('A'+id))
	}
	return b, nil
}

func newEngine(t *testing.T, m *Model, o Options) *Engine {
	t.Helper()
	d := NewCPU(m, o.Pages)
	d.ahead = o.Pages%2 == 1 // as a GPU does, in half of the tests
	e, err := NewEngine(m, d, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func submit(t *testing.T, e *Engine, r Request) *Sequence {
	t.Helper()
	s, err := e.Submit(r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func finish(t *testing.T, e *Engine) {
	t.Helper()
	for e.Busy() {
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
	}
	if e.FreePages() != e.options.Pages {
		t.Fatalf("%d of %d pages came back", e.FreePages(), e.options.Pages)
	}
}

// plainly goes on from a prompt by the training pass alone, over everything again for each token.
func plainly(t *testing.T, m *Model, r Request) []int32 {
	t.Helper()
	tokens, random := slices.Clone(r.Prompt), rand.New(rand.NewPCG(r.Seed, 0))
	for range min(r.MaxTokens, m.Config.Context-len(r.Prompt)) {
		y := forward(t, m, tokens)
		tokens = append(tokens, draw(random.Float64(), r.odds(y[len(y)-m.Config.Vocab:], tokens)))
	}
	return tokens[len(r.Prompt):]
}

// TestRowsJoinAndLeave holds requests that come, go and are cancelled at random, in a pool too small for all of them,
// against the plain pass.
func TestRowsJoinAndLeave(t *testing.T) {
	for _, kind := range kinds {
		m := tiny(t, kind, func(c *model.Config, _ *attention.Config) { c.Context = 90 })
		r := rand.New(rand.NewPCG(11, uint64(kind[0])))
		e := newEngine(t, m, Options{Pages: 5, Rows: 4, Chunk: 13})
		var all []*Sequence
		for len(all) < 12 || e.Busy() {
			if len(all) < 12 && r.IntN(3) == 0 {
				q := Request{Prompt: randomTokens(r, 1+r.IntN(80), m.Config.Vocab), MaxTokens: 1 + r.IntN(20)}
				if r.IntN(2) == 0 {
					q.Sampling = Sampling{Temperature: 1, TopK: 20, TopP: 0.9, MinP: 0.01, Repetition: 1.2, Seed: r.Uint64()}
				}
				all = append(all, submit(t, e, q))
			}
			if r.IntN(40) == 0 && len(all) > 0 {
				e.Cancel(all[r.IntN(len(all))])
			}
			if err := e.Step(); err != nil {
				t.Fatal(err)
			}
		}
		finish(t, e)
		for i, s := range all {
			want := plainly(t, m, s.Request)
			if s.Reason == Cancelled {
				want = want[:len(s.Output())]
			}
			if !slices.Equal(s.Output(), want) {
				t.Errorf("%s: request %d (%s): %v, plainly %v", kind, i, s.Reason, s.Output(), want)
			}
		}
	}
}

func TestRowAloneEqualsRowInBatch(t *testing.T) {
	for _, kind := range kinds {
		m := tiny(t, kind)
		r := rand.New(rand.NewPCG(2, 9))
		d, p := NewCPU(m, 20), scattered(r, 20)
		tokens := randomTokens(r, 100, m.Config.Vocab)
		var alone, batch Batch
		first, _ := p.take(2)
		alone.add(first, 0, tokens, 1)
		for n := range 5 {
			pages, _ := p.take(2)
			part := tokens
			if n != 3 {
				part = randomTokens(r, 1+r.IntN(120), m.Config.Vocab)
			}
			batch.add(pages, 0, part, 1)
		}
		y, z := logits(t, d, alone), logits(t, d, batch)
		near(t, kind, z[3*m.Config.Vocab:4*m.Config.Vocab], y)
	}
}

// TestPagesComeBack lets 10,000 requests come and be cancelled at random, with guesses, and with passes that are started
// before the tokens of the last are known.
func TestPagesComeBack(t *testing.T) {
	m := tiny(t, "gta-2", func(c *model.Config, _ *attention.Config) { c.Layers, c.Width, c.MLP, c.Context = 1, 16, 16, 200 })
	draft, err := NewDraftModel(m, OnCPU(), Options{Pages: 9}, 2, m)
	if err != nil {
		t.Fatal(err)
	}
	for name, drafter := range map[string]Drafter{"guesses": draft, "ahead": nil} {
		e := newEngine(t, m, Options{Pages: 9, Rows: 6, Chunk: 200, Ends: []int32{5}, Drafter: drafter, Vocabulary: letters{}})
		comeAndGo(t, e, name, 5000)
	}
}

// comeAndGo lets n requests come and be cancelled at random; some must end in each way, and all pages come back.
func comeAndGo(t *testing.T, e *Engine, name string, n int) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	reasons := map[Reason]int{}
	var open []*Sequence
	for i := range n {
		q := Request{Prompt: randomTokens(r, 1+r.IntN(70), e.model.Config.Vocab), MaxTokens: 1 + r.IntN(70), Stop: []string{"B"}}
		if r.IntN(3) > 0 {
			q.Sampling = Sampling{Temperature: 1, Seed: r.Uint64()}
		}
		open = append(open, submit(t, e, q))
		for len(open) > 8 || i == n-1 && len(open) > 0 {
			if r.IntN(8) == 0 {
				e.Cancel(open[r.IntN(len(open))])
			}
			if err := e.Step(); err != nil {
				t.Fatal(err)
			}
			open = slices.DeleteFunc(open, func(s *Sequence) bool {
				reasons[s.Reason]++
				return s.Reason != Running
			})
		}
	}
	finish(t, e)
	for _, why := range []Reason{Ended, Stopped, Full, Cancelled} {
		if reasons[why] == 0 {
			t.Errorf("%s: no request ended by %q: %v", name, why, reasons)
		}
	}
}

// TestFitIsTrue fills a pool with as many requests of a context as it is said to hold, and finds no room for one more.
func TestFitIsTrue(t *testing.T) {
	m := tiny(t, "mla")
	fit := Fit(m.Transformer, 300000, 4)
	for _, context := range []int{1, 64, 65, 200} {
		e := newEngine(t, m, Options{Pages: fit.Pages, Rows: 1000})
		n := fit.Batch(context)
		for range n + 1 {
			submit(t, e, Request{Prompt: make([]int32, max(1, context-1)), MaxTokens: 1})
		}
		if e.Admit(); len(e.running) != n || context > 1 && len(e.waiting) != 1 {
			t.Errorf("context %d: %d run and %d wait, %d are said to fit", context, len(e.running), len(e.waiting), n)
		}
	}
}

// rationed is a backend with so many bytes, of which each row of a pass takes some.
type rationed struct {
	cpuBackend
	bytes, row int64
}

func (r rationed) Available(_ *Model, l Limits) (int64, error) {
	return max(0, r.bytes-r.row*int64(l.Rows)), nil
}

// TestLargestIsTrue holds the largest batch against trying all.
func TestLargestIsTrue(t *testing.T) {
	m := tiny(t, "gqa-2")
	page := BytesFor(m.Transformer, 1, 4)
	for _, r := range []rationed{{bytes: 0}, {bytes: page - 1}, {bytes: page}, {bytes: 40*page + 7}, {bytes: 41 * page, row: 3 * page}, {bytes: 1 << 30, row: 12345}} {
		for _, S := range []int{1, 64, 65, 256} {
			want := 0
			for b := int64(1); b*int64(pagesFor(S))*page+b*r.row <= r.bytes; b++ {
				want++
			}
			if got, err := Largest(m, r, Options{}, S); got != want || err != nil {
				t.Errorf("%+v: %d requests of %d tokens (%v), %d fit", r, got, S, err, want)
			}
		}
	}
}

// TestBadRequests refuses each in one line, and serves another request as if nothing were.
func TestBadRequests(t *testing.T) {
	m := tiny(t, "gqa-2")
	e := newEngine(t, m, Options{Pages: 2})
	good := submit(t, e, Request{Prompt: []int32{1, 2, 3}, MaxTokens: 8})
	one := []int32{1}
	for _, c := range []struct {
		r    Request
		want string
	}{
		{Request{MaxTokens: 1}, "decode: the prompt is empty"},
		{Request{Prompt: make([]int32, 256), MaxTokens: 1}, "decode: a prompt of 256 tokens leaves no room in the model's context of 256"},
		{Request{Prompt: []int32{1, 37}, MaxTokens: 1}, "decode: token 37 at position 1 is none of the model's 37"},
		{Request{Prompt: []int32{-1}, MaxTokens: 1}, "decode: token -1 at position 0 is none of the model's 37"},
		{Request{Prompt: make([]int32, 128), MaxTokens: 1}, "decode: 129 tokens need 3 pages of the cache, the pool has 2"},
		{Request{Prompt: one}, "decode: at least one new token must be asked for, not 0"},
		{Request{Prompt: one, Echo: true, Score: true}, "decode: this engine scores no prompts"},
		{Request{Prompt: one, MaxTokens: 1, Top: 2}, "decode: scores of the prompt and the 2 likeliest tokens come only with scores"},
		{Request{Prompt: one, MaxTokens: 1, Stop: []string{"x"}}, "decode: stop strings need a vocabulary"},
		{Request{Prompt: one, MaxTokens: 1, Sampling: Sampling{Temperature: -1}}, "decode: temperature must be from 0 to 100, it is -1"},
		{Request{Prompt: one, MaxTokens: 1, Sampling: Sampling{TopP: 2}}, "decode: top-p must be from 0 to 1, it is 2"},
		{Request{Prompt: one, MaxTokens: 1, Sampling: Sampling{TopK: -2}}, "decode: top-k must not be negative, it is -2"},
		{Request{Prompt: one, MaxTokens: 1, Sampling: Sampling{MinP: 1.5}}, "decode: min-p must be from 0 to 1, it is 1.5"},
		{Request{Prompt: one, MaxTokens: 1, Sampling: Sampling{Repetition: -1}}, "decode: the repetition penalty must be from 0 to 100, it is -1"},
	} {
		if s, err := e.Submit(c.r); s != nil || err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
	}
	finish(t, e)
	if want := plainly(t, m, good.Request); !slices.Equal(good.Output(), want) {
		t.Errorf("the good request got %v, not %v", good.Output(), want)
	}
	if _, err := NewEngine(m, nil, Options{}); err == nil || !strings.HasPrefix(err.Error(), "decode: the cache pool must have at least one page") {
		t.Errorf("no pages: %v", err)
	}
}

// placed notes in which row each request of one new token stands.
type placed struct {
	*CPU
	rows  map[int]*int32 // the pages, by row
	moved int            // rows that got other pages than they had in the pass before
	steps int            // such rows in the last pass
}

func (p *placed) Pass(b Batch) error {
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
	return p.CPU.Pass(b)
}

// TestRowsStay: requests keep their rows while others come and go, for a device holds the pages of each row. No more rows
// change hands than requests have left and come.
func TestRowsStay(t *testing.T) {
	m := tiny(t, "gqa-2")
	r := rand.New(rand.NewPCG(3, 3))
	d := &placed{CPU: NewCPU(m, 40), rows: map[int]*int32{}}
	e, err := NewEngine(m, d, Options{Pages: 40, Rows: 16, Chunk: 20})
	if err != nil {
		t.Fatal(err)
	}
	var all []*Sequence
	running := map[*Sequence]bool{} // those that had one new token in the last pass
	most, moved := 0, 0
	for len(all) < 80 || e.Busy() {
		for len(all) < 80 && len(e.running)+len(e.waiting) < 16 {
			all = append(all, submit(t, e, Request{Prompt: randomTokens(r, 1+r.IntN(30), m.Config.Vocab), MaxTokens: 5 + r.IntN(30)}))
		}
		var now []*Sequence
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		for i, s := range e.flying.rows {
			if e.flying.Rows[i].T == 1 {
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
