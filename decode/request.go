package decode

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Options are what an engine serves with.
type Options struct {
	Pages      int        // of the cache pool
	Tail       int        // pages of the pool of layers with windows; 0: as many as the rows can need
	Rows       int        // most requests in a pass; 0 is 64
	Chunk      int        // most prompt tokens in a pass; 0 is 256
	Scored     int        // most prompt tokens in a pass that are scored; 0: no request may ask for it
	Ends       []int32    // the tokens that end a text; there may be none
	Vocabulary Vocabulary // may be nil: no text, and no stop strings
	Drafter    Drafter    // may be nil: no speculation
}

// A Request is a prompt and how to go on from it.
type Request struct {
	Prompt    []int32
	MaxTokens int // new tokens at most; the model's context bounds them too
	Stop      []string
	IgnoreEnd bool // goes on after an end-of-text
	Score     bool // the new tokens are wanted with their scores
	Echo      bool // the prompt's are wanted too; then MaxTokens may be 0
	Top       int  // how many of the likeliest tokens come with each score
	Sampling
}

// A Reason says why a sequence ended.
type Reason string

// The reasons.
const (
	Running   Reason = ""
	Ended     Reason = "end"    // the model ended the text
	Stopped   Reason = "stop"   // a stop string came
	Full      Reason = "length" // MaxTokens, or the context
	Cancelled Reason = "cancelled"
)

// resolve fills in what was left at zero, and checks the rest.
func (o Options) resolve() (Options, error) {
	o.Rows, o.Chunk = cmp.Or(o.Rows, 64), cmp.Or(o.Chunk, 256)
	switch {
	case o.Pages < 1:
		return o, fmt.Errorf("decode: the cache pool must have at least one page of %d tokens, it has %d",
			PageTokens, o.Pages)
	case o.Rows < 1 || o.Chunk < 1 || o.Scored < 0:
		return o, fmt.Errorf("decode: rows and chunk must be positive and scored not negative, they are %d, %d and %d",
			o.Rows, o.Chunk, o.Scored)
	}
	return o, nil
}

// Limits are what an engine with these options asks of its device.
func (o Options) Limits(m *Model) (Limits, error) {
	o, err := o.resolve()
	l := Limits{Pages: o.Pages, Tail: o.tail(m), Rows: o.Rows, Scores: o.Rows, Context: m.Config.Context}
	if o.Drafter != nil {
		l.Scores *= 1 + o.Drafter.longest()
	}
	l.Tokens = l.Scores + min(o.Chunk, o.Rows*m.Config.Context)
	l.Scores += min(o.Scored, o.Chunk)
	return l, err
}

// tail is the pages of the pool of layers with windows: as many as are said, or can be needed.
func (o Options) tail(m *Model) int {
	switch w := m.Window(); {
	case w == 0:
		return 0
	case o.Tail > 0:
		return o.Tail
	default:
		return min(o.Pages, o.Rows*tailPages(w))
	}
}

// most is how many tokens a request may come to. Of a prompt that is only scored, the last token needs no cache.
func (e *Engine) most(r Request) int {
	if r.MaxTokens == 0 {
		return len(r.Prompt)
	}
	return min(e.model.Config.Context, len(r.Prompt)+min(r.MaxTokens, e.model.Config.Context))
}

// Check says what is wrong with a request. It may be called by any goroutine.
func (e *Engine) Check(r Request) error {
	c, scoring := e.model.Config, r.Echo && r.MaxTokens == 0
	switch {
	case len(r.Prompt) == 0:
		return errors.New("decode: the prompt is empty")
	case len(r.Prompt) >= c.Context && !scoring, len(r.Prompt) > c.Context+1:
		return fmt.Errorf("decode: a prompt of %d tokens leaves no room in the model's context of %d",
			len(r.Prompt), c.Context)
	case r.MaxTokens < 1 && !scoring:
		return fmt.Errorf("decode: at least one new token must be asked for, not %d", r.MaxTokens)
	case r.Echo && !r.Score, r.Top > 0 && !r.Score, r.Top < 0:
		return fmt.Errorf("decode: scores of the prompt and the %d likeliest tokens come only with scores", r.Top)
	case r.Echo && e.options.Scored == 0:
		return errors.New("decode: this engine scores no prompts")
	case len(r.Stop) > 0 && e.options.Vocabulary == nil:
		return errors.New("decode: stop strings need a vocabulary")
	case slices.Contains(r.Stop, ""):
		return errors.New("decode: a stop string is empty")
	}
	for i, t := range r.Prompt {
		if t < 0 || int(t) >= c.Vocab {
			return fmt.Errorf("decode: token %d at position %d is none of the model's %d", t, i, c.Vocab)
		}
	}
	if most := e.most(r); PagesFor(most) > e.pool.total {
		return fmt.Errorf("decode: %d tokens need %d pages of the cache, the pool has %d", most, PagesFor(most), e.pool.total)
	}
	if e.tails != nil && tailOf(e.most(r), e.tails.window) > e.tails.total {
		return fmt.Errorf("decode: %d tokens need %d pages in layers with windows, their pool has %d", e.most(r),
			tailOf(e.most(r), e.tails.window), e.tails.total)
	}
	return r.Sampling.Validate()
}
