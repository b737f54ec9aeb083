package decode

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Options are what an engine serves with.
type Options struct {
	Pages      int        // of the cache pool
	Rows       int        // most requests in a pass; 0 is 64
	Chunk      int        // most prompt tokens in a pass; 0 is 256
	EndOfText  int32      // the token that ends a text; negative for none
	Vocabulary Vocabulary // may be nil: no text, and no stop strings
	Drafter    Drafter    // may be nil: no speculation
}

// A Request is a prompt and how to go on from it.
type Request struct {
	Prompt    []int32
	MaxTokens int // new ones; the model's context ends them too
	Stop      []string
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

// A Sequence is a request in work.
type Sequence struct {
	Request
	Tokens []int32 // the prompt, and what came
	Reason Reason

	pages  []int32 // none while it waits
	most   int     // tokens in all
	cached int     // Tokens[:cached] are in the cache
	random *rand.Rand
	stream stream

	drafted  int     // Tokens[:drafted] are in the drafter's cache
	guesses  []int32 // what a drafter proposes next
	chances  [][]float64
	proposer *rand.Rand
}

// Output is the tokens that came.
func (s *Sequence) Output() []int32 { return s.Tokens[len(s.Prompt):] }

// Take returns the text that is certain since the last call: never part of a stop string or of a rune.
func (s *Sequence) Take() string { return s.stream.take() }

// Counts are what an engine has done.
type Counts struct {
	Passes   int `json:"passes"`
	Tokens   int `json:"tokens"`   // that came
	Drafted  int `json:"drafted"`  // guesses
	Accepted int `json:"accepted"` // of them
}

// An Engine serves requests with one model, all in the same passes. It belongs to one goroutine.
type Engine struct {
	Counts Counts

	model   *Model
	device  Device
	pool    *pool
	options Options
	waiting []*Sequence
	running []*Sequence
}

// NewEngine makes an engine on a device that has room for o.Pages.
func NewEngine(m *Model, d Device, o Options) (*Engine, error) {
	if o.Pages < 1 {
		return nil, fmt.Errorf("decode: the cache pool must have at least one page of %d tokens, it has %d", PageTokens, o.Pages)
	}
	if o.Rows == 0 {
		o.Rows = 64
	}
	if o.Chunk == 0 {
		o.Chunk = 256
	}
	if o.Rows < 1 || o.Chunk < 1 {
		return nil, fmt.Errorf("decode: rows and chunk must be positive, they are %d and %d", o.Rows, o.Chunk)
	}
	return &Engine{model: m, device: d, pool: newPool(o.Pages), options: o}, nil
}

// FreePages is how many pages nobody has.
func (e *Engine) FreePages() int { return len(e.pool.free) }

// Busy says that there are requests in work.
func (e *Engine) Busy() bool { return len(e.waiting)+len(e.running) > 0 }

// Submit takes a request, or says what is wrong with it. It gets its first token in one of the next steps.
func (e *Engine) Submit(r Request) (*Sequence, error) {
	c := e.model.Config
	switch {
	case len(r.Prompt) == 0:
		return nil, errors.New("decode: the prompt is empty")
	case len(r.Prompt) >= c.Context:
		return nil, fmt.Errorf("decode: a prompt of %d tokens leaves no room in the model's context of %d", len(r.Prompt), c.Context)
	case r.MaxTokens < 1:
		return nil, fmt.Errorf("decode: at least one new token must be asked for, not %d", r.MaxTokens)
	case len(r.Stop) > 0 && e.options.Vocabulary == nil:
		return nil, errors.New("decode: stop strings need a vocabulary")
	case slices.Contains(r.Stop, ""):
		return nil, errors.New("decode: a stop string is empty")
	}
	for i, t := range r.Prompt {
		if t < 0 || int(t) >= c.Vocab {
			return nil, fmt.Errorf("decode: token %d at position %d is none of the model's %d", t, i, c.Vocab)
		}
	}
	if err := r.Sampling.Validate(); err != nil {
		return nil, err
	}
	most := min(c.Context, len(r.Prompt)+r.MaxTokens)
	if need := pagesFor(most); need > e.pool.total {
		return nil, fmt.Errorf("decode: %d tokens need %d pages of the cache, the pool has %d", most, need, e.pool.total)
	}
	s := &Sequence{
		Request: r, Tokens: slices.Clone(r.Prompt), most: most, stream: stream{stops: r.Stop},
		random: rand.New(rand.NewPCG(r.Seed, 0)), proposer: rand.New(rand.NewPCG(r.Seed, 1)),
	}
	e.waiting = append(e.waiting, s)
	return s, nil
}

// Cancel ends a request that is in work.
func (e *Engine) Cancel(s *Sequence) {
	if s.Reason == Running {
		e.end(s, Cancelled)
	}
}

// end takes a sequence out of work and its pages back.
func (e *Engine) end(s *Sequence, why Reason) {
	s.Reason, s.stream.done = why, true
	e.pool.give(s.pages)
	s.pages, s.guesses, s.chances = nil, nil, nil
	other := func(x *Sequence) bool { return x == s }
	e.waiting = slices.DeleteFunc(e.waiting, other)
	e.running = slices.DeleteFunc(e.running, other)
}

// admit starts requests, in their order, while there are rows and pages for all the tokens that each may come to.
func (e *Engine) admit() {
	for len(e.waiting) > 0 && len(e.running) < e.options.Rows {
		pages, ok := e.pool.take(pagesFor(e.waiting[0].most))
		if !ok {
			return
		}
		e.waiting[0].pages = pages
		e.running = append(e.running, e.waiting[0])
		e.waiting = e.waiting[1:]
	}
}

// Step runs one pass: the next token of every request whose prompt is in the cache, and some more of the prompts of others.
func (e *Engine) Step() error {
	e.admit()
	if len(e.running) == 0 {
		return nil
	}
	if err := e.propose(); err != nil {
		return err
	}
	var b Batch
	var rows []*Sequence
	var scored []int
	chunk := e.options.Chunk
	for _, s := range e.running {
		tokens, score := s.Tokens[s.cached:], 1+len(s.guesses)
		if len(tokens) > 1 {
			n := min(chunk, len(tokens))
			chunk -= n
			if n < len(tokens) {
				tokens, score = tokens[:n], 0
			}
		}
		if len(tokens) > 0 {
			tokens = append(slices.Clip(tokens), s.guesses...)
			b.add(s.pages, s.cached, tokens, score)
			rows, scored = append(rows, s), append(scored, score)
		}
	}
	logits, err := e.device.Pass(b, e.model.pass)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	e.Counts.Passes++
	for i, s := range rows {
		n := scored[i] * e.model.Config.Vocab
		if n == 0 {
			s.cached += b.Rows[i].T
			continue
		}
		e.extend(s, logits[:n])
		logits = logits[n:]
	}
	return nil
}

// extend gives a sequence its next token, and those of its guesses that hold. logits [1+guesses, V].
func (e *Engine) extend(s *Sequence, logits []float32) {
	V, guesses, chances := e.model.Config.Vocab, s.guesses, s.chances
	s.guesses, s.chances = nil, nil
	s.cached = len(s.Tokens)
	e.Counts.Drafted += len(guesses)
	for i := 0; s.Reason == Running; i++ {
		l := logits[i*V : (i+1)*V]
		if i == len(guesses) {
			e.emit(s, s.next(s.random, l, s.Tokens))
			break
		}
		token, taken := verify(s.random, s.odds(l, s.Tokens), chances[i], guesses[i])
		e.emit(s, token)
		if !taken {
			break
		}
		s.cached++
		e.Counts.Accepted++
	}
	s.drafted = min(s.drafted, s.cached)
}

// emit appends a token, and ends the sequence when it is the last.
func (e *Engine) emit(s *Sequence, token int32) {
	s.Tokens = append(s.Tokens, token)
	e.Counts.Tokens++
	if token == e.options.EndOfText {
		e.end(s, Ended)
		return
	}
	if e.options.Vocabulary != nil {
		piece, err := e.options.Vocabulary.Decode([]int32{token})
		if err == nil && s.stream.push(piece) { // an id beyond the tokenizer's has no text
			e.end(s, Stopped)
			return
		}
	}
	if len(s.Tokens) == s.most {
		e.end(s, Full)
	}
}
