package decode

import (
	"fmt"

	"headroom/kernels/ref"
	"headroom/model"
)

// Layers with a window read the last tokens of a sequence alone. Their pages, the tail of the sequence, are those of a
// pool of their own, which is smaller than that of full layers: a page goes back when it lies wholly behind the window.
//
// Every request that is admitted has a promise of pages, enough for its window and some tokens more, so that it can
// always go on. It may have more of them at a time, for a long piece of its prompt, as far as the promises to others
// leave some.
//
// A request shares the tail of another's prompt where it shares the prompt in full layers. There a content is known by
// the name that the pool of full layers has given it, which is never given twice.

// tailTokens are those, beside the window, that a request can always take in one pass.
const tailTokens = 256

// tailPages is what is promised to a request of any length: its last tokens lie in one page more than they fill.
func tailPages(window int) int { return PagesFor(window+tailTokens) + 1 }

// tailOf is what is promised to a request of n tokens.
func tailOf(n, window int) int { return min(PagesFor(n), tailPages(window)) }

// tails are the tails of an engine's sequences.
type tails struct {
	*pool
	window int
}

// newTails are none where no layer of the model has a window.
func newTails(t *model.Transformer, pages int) *tails {
	if t.Window() == 0 {
		return nil
	}
	return &tails{newPool(pages), t.Window()}
}

// first is the first page that a query at a position reads.
func (t *tails) first(position int) int { return ref.FirstKey(position, t.window) / PageTokens }

// spare is how many pages nobody has, and nobody was promised.
func (t *tails) spare(running []*Sequence) int {
	if t == nil {
		return 0
	}
	n := t.total
	for _, s := range running {
		n -= t.has(s, 0)
	}
	return n
}

// admit promises pages to a sequence, if there are as many beside those that others have been promised.
func (t *tails) admit(s *Sequence, running []*Sequence) bool {
	if t == nil {
		return true
	}
	s.promise = tailOf(s.most, t.window)
	return s.promise <= t.spare(running)
}

// shareable is how many of the known pages of full layers a prompt can share: the tail of those must be known too.
func (t *tails) shareable(full *pool, pages []int32) int {
	n := len(pages)
	for i := n - 1; i >= 0 && i >= t.first(n*PageTokens); i-- {
		if _, ok := t.known[block{after: full.pages[pages[i]].name}]; !ok {
			n = i // a shorter beginning reads no later page
		}
	}
	return n
}

// share gives a sequence the tail of the pages that it shares in full layers.
func (t *tails) share(s *Sequence, full *pool, pages []int32) {
	if t == nil {
		return
	}
	s.tail, s.behind = nil, 0
	t.leave(s, len(pages)*PageTokens)
	for _, i := range pages[s.behind:] {
		s.tail = append(s.tail, t.known[block{after: full.pages[i].name}])
	}
	t.pool.share(s.tail[s.behind:])
}

// reach takes pages for a sequence, so that it has those of its first n tokens.
func (t *tails) reach(s *Sequence, n int) []int32 {
	if t == nil {
		return nil
	}
	own, ok := t.take(max(0, PagesFor(n)-len(s.tail)))
	if !ok {
		panic(fmt.Sprintf("decode: no page for %d tokens of a request that has %d and was promised %d", n,
			len(s.tail)-s.behind, s.promise))
	}
	s.tail = append(s.tail, own...)
	return s.tail
}

// learn names a full page of a sequence, if it is here: where a cache is made up to measure speed with, pages are
// behind that never were.
func (t *tails) learn(s *Sequence, page int, name uint64) {
	if t != nil && page >= s.behind {
		t.pool.learn(s.tail[page], name, make([]int32, PageTokens))
	}
}

// leave gives back the pages that no query from a position on reads.
func (t *tails) leave(s *Sequence, position int) {
	if t == nil {
		return
	}
	for first := t.first(position); s.behind < first; s.behind++ {
		if s.behind == len(s.tail) { // a page that was never here
			s.tail = append(s.tail, -1)
			continue
		}
		t.give(s.tail[s.behind:][:1])
		s.tail[s.behind] = -1
	}
}

// end gives back all pages of a sequence.
func (t *tails) end(s *Sequence) {
	if t != nil {
		t.give(s.tail[s.behind:])
		s.tail, s.behind, s.promise = nil, 0, 0
	}
}

// has is how many pages a sequence has, was promised, or needs for its first n tokens.
func (t *tails) has(s *Sequence, n int) int {
	return max(s.promise, len(s.tail)-s.behind, PagesFor(n)-s.behind)
}
