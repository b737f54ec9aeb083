package decode

import (
	"cmp"
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
	flying  *flight // a pass that was started before the tokens of the one before were known
}

// A flight is a pass that was started.
type flight struct {
	Batch
	rows   []*Sequence
	scored []int // of each row
}

// resolve fills in what was left at zero, and checks the rest.
func (o Options) resolve() (Options, error) {
	o.Rows, o.Chunk = cmp.Or(o.Rows, 64), cmp.Or(o.Chunk, 256)
	switch {
	case o.Pages < 1:
		return o, fmt.Errorf("decode: the cache pool must have at least one page of %d tokens, it has %d", PageTokens, o.Pages)
	case o.Rows < 1 || o.Chunk < 1:
		return o, fmt.Errorf("decode: rows and chunk must be positive, they are %d and %d", o.Rows, o.Chunk)
	}
	return o, nil
}

// Limits are what an engine with these options asks of its device.
func (o Options) Limits(m *Model) (Limits, error) {
	o, err := o.resolve()
	l := Limits{Pages: o.Pages, Rows: o.Rows, Scores: o.Rows, Context: m.Config.Context}
	if o.Drafter != nil {
		l.Scores *= 1 + o.Drafter.longest()
	}
	l.Tokens = l.Scores + o.Chunk
	return l, err
}

// NewEngine makes an engine on a device that has room for o.Limits.
func NewEngine(m *Model, d Device, o Options) (*Engine, error) {
	o, err := o.resolve()
	if err != nil {
		return nil, err
	}
	return &Engine{model: m, device: d, pool: newPool(o.Pages), options: o}, nil
}

// Open makes an engine on a device of its own on a backend. Close it with the engine's Close.
func Open(m *Model, on Backend, o Options) (*Engine, error) {
	l, err := o.Limits(m)
	if err != nil {
		return nil, err
	}
	d, err := on.Open(m, l)
	if err != nil {
		return nil, err
	}
	return NewEngine(m, d, o)
}

// Close frees the engine's device, and its drafter's.
func (e *Engine) Close() error {
	err := e.device.Close()
	if d, ok := e.options.Drafter.(*DraftModel); ok {
		err = errors.Join(err, d.device.Close())
	}
	return err
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
// On a device that runs on its own, the pass after it is on its way before its tokens are read.
func (e *Engine) Step() error {
	e.admit()
	f := e.flying
	e.flying = nil
	if f == nil {
		if len(e.running) == 0 {
			return nil
		}
		if err := e.propose(); err != nil {
			return err
		}
		f = e.gather()
		if err := e.start(f); err != nil {
			return err
		}
	}
	if e.mayFollow(f) {
		e.flying = e.follow(f)
		if err := e.start(e.flying); err != nil {
			return err
		}
	}
	tokens, err := e.device.Tokens()
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	at := 0
	for i, s := range f.rows {
		n := f.scored[i]
		switch {
		case s.Reason != Running: // it ended while the pass was on its way
		case n == 0:
			s.cached += f.Rows[i].T
		default:
			if err := e.extend(s, at, tokens[at:at+n]); err != nil {
				return err
			}
		}
		at += n
	}
	return nil
}

func (e *Engine) start(f *flight) error {
	e.Counts.Passes++
	if err := e.device.Pass(f.Batch); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return nil
}

// gather puts together the next pass.
func (e *Engine) gather() *flight {
	f := &flight{}
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
		if len(tokens) == 0 {
			continue
		}
		f.add(s.pages, s.cached, append(slices.Clip(tokens), s.guesses...), score)
		if score == 1 {
			f.Draws[len(f.Draws)-1] = s.draw()
		}
		f.rows, f.scored = append(f.rows, s), append(f.scored, score)
	}
	return f
}

// draw is how the sequence's next token is drawn.
func (s *Sequence) draw() Draw {
	d := Draw{Sampling: s.Sampling}
	if !s.greedy() {
		d.U = s.random.Float64()
	}
	if s.penalizes() {
		d.History = s.Tokens
	}
	return d
}

// mayFollow says that the pass after f is known but for its tokens, unless one of them ends a text.
func (e *Engine) mayFollow(f *flight) bool {
	if !e.device.Ahead() || e.options.Drafter != nil || len(f.rows) != len(e.running) {
		return false
	}
	for i, s := range f.rows {
		if s.Reason != Running || f.scored[i] != 1 || len(s.Tokens)+1 >= s.most || s.penalizes() {
			return false
		}
	}
	return true
}

// follow is the pass after f: each row's token is what f draws for it.
func (e *Engine) follow(f *flight) *flight {
	next := &flight{rows: f.rows, scored: f.scored}
	for i, s := range f.rows {
		next.add(s.pages, f.Rows[i].Start+f.Rows[i].T, []int32{drawn(i)}, 1)
		next.Draws[i] = s.draw()
	}
	return next
}

// extend gives a sequence its next token, and those of its guesses that hold. Its scores in the pass are those from at on,
// and tokens what the device drew for them.
func (e *Engine) extend(s *Sequence, at int, tokens []int32) error {
	guesses, chances := s.guesses, s.chances
	s.guesses, s.chances = nil, nil
	s.cached = len(s.Tokens)
	e.Counts.Drafted += len(guesses)
	for i := 0; s.Reason == Running; i++ {
		token, taken := tokens[i], i < len(guesses) && tokens[i] == guesses[i]
		if len(guesses) > 0 && !s.greedy() {
			l, err := e.device.Scores(at + i)
			switch {
			case err != nil:
				return fmt.Errorf("decode: %w", err)
			case i < len(guesses):
				token, taken = verify(s.random, s.odds(l, s.Tokens), chances[i], guesses[i])
			default:
				token = s.next(s.random.Float64(), l, s.Tokens)
			}
		}
		e.emit(s, token)
		if !taken {
			break
		}
		s.cached++
		e.Counts.Accepted++
	}
	s.drafted = min(s.drafted, s.cached)
	return nil
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
