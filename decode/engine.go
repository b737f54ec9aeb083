package decode

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

// A Sequence is a request that an engine has taken, and what came of it.
type Sequence struct {
	Request
	Tokens []int32 // the prompt, and the new tokens behind it
	Scores []Score // of the new tokens; with Echo those of the prompt come first, which has none for its first token
	Shared int     // tokens of the prompt whose keys and values were in the cache already
	Reason Reason

	pages   []int32 // of the cache; none while the request waits
	tail    []int32 // of its layers with windows, where pages behind are -1; see tails
	behind  int     // how many of these
	promise int     // pages of the tail that the sequence can always have
	named   int     // how many of them the pool knows by content, the last by the name that follows
	name    uint64
	most    int // tokens that the sequence may come to
	cached  int // Tokens[:cached] are in the cache
	row     int // in the last pass in which the sequence had one new token; -1 before that
	random  *rand.Rand
	stream  stream

	drafted  int     // Tokens[:drafted] are in the drafter's cache
	guesses  []int32 // what a drafter proposes next
	chances  [][]float64
	proposer *rand.Rand
}

// Cached is how many of the sequence's tokens are in the cache.
func (s *Sequence) Cached() int { return s.cached }

// Output is the new tokens.
func (s *Sequence) Output() []int32 { return s.Tokens[len(s.Prompt):] }

// Take returns the text that is certain since the last call: never part of a stop string or of a rune.
func (s *Sequence) Take() string { return s.stream.take() }

// Taken is how many tokens of the output have their text in what Take returned. Tokens of a stop string, and those
// whose text is not certain yet, do not count.
func (s *Sequence) Taken() int { return s.stream.tokens() }

// Counts are what an engine has done.
type Counts struct {
	Passes   int `json:"passes"`
	Prompt   int `json:"prompt"`   // tokens of the prompts of admitted requests
	Shared   int `json:"shared"`   // of them, those that were in the cache already
	Tokens   int `json:"tokens"`   // new ones
	Drafted  int `json:"drafted"`  // tokens that a drafter guessed
	Accepted int `json:"accepted"` // of them, those that the model agreed to
}

// An Engine serves requests with one model, all in the same passes. It belongs to one goroutine.
type Engine struct {
	Counts Counts

	model   *Model
	device  Device
	pool    *pool
	tails   *tails // nil where no layer has a window
	options Options
	waiting []*Sequence
	running []*Sequence
	flying  *flight // a pass that was started before the tokens of the one before were known
}

// NewEngine makes an engine on a device that has room for o.Limits.
func NewEngine(m *Model, d Device, o Options) (*Engine, error) {
	o, err := o.resolve()
	if err != nil {
		return nil, err
	}
	return &Engine{model: m, device: d, pool: newPool(o.Pages), tails: newTails(m.Transformer, o.tail(m)), options: o}, nil
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

// FreePages is how many pages no request has.
func (e *Engine) FreePages() int { return e.pool.left() }

// A Usage is how much of an engine is in use.
type Usage struct {
	Running int `json:"running"` // requests that have their pages
	Waiting int `json:"waiting"`
	Pages   int `json:"pages"`      // of the pool
	Used    int `json:"pages_used"` // by requests
	Kept    int `json:"pages_kept"` // by no request, for later ones that begin with the same tokens

	Tail     int `json:"window_pages,omitempty"`      // of the pool of layers with windows
	TailUsed int `json:"window_pages_used,omitempty"` // by requests
}

// Usage is how much of the engine is in use now.
func (e *Engine) Usage() Usage {
	u := Usage{Running: len(e.running), Waiting: len(e.waiting), Pages: e.pool.total, Used: e.pool.total - e.pool.left(),
		Kept: e.pool.kept.Len()}
	if e.tails != nil {
		u.Tail, u.TailUsed = e.tails.total, e.tails.total-e.tails.left()
	}
	return u
}

// Busy says that there are requests that wait or run.
func (e *Engine) Busy() bool { return len(e.waiting)+len(e.running) > 0 }

// Submit takes a request, or says what is wrong with it. It gets its first token in one of the next steps.
func (e *Engine) Submit(r Request) (*Sequence, error) {
	if err := e.Check(r); err != nil {
		return nil, err
	}
	most := e.most(r)
	s := &Sequence{
		Request: r, Tokens: slices.Clone(r.Prompt), most: most, row: -1, stream: stream{stops: r.Stop},
		random: rand.New(rand.NewPCG(r.Seed, 0)), proposer: rand.New(rand.NewPCG(r.Seed, 1)),
	}
	e.waiting = append(e.waiting, s)
	return s, nil
}

// Cancel ends a request that waits or runs.
func (e *Engine) Cancel(s *Sequence) {
	if s.Reason == Running {
		e.end(s, Cancelled)
	}
}

// end takes a sequence out of the engine and gives its pages back to the pool.
func (e *Engine) end(s *Sequence, why Reason) {
	s.Reason, s.stream.done = why, true
	e.pool.give(s.pages)
	e.tails.end(s)
	s.pages, s.guesses, s.chances = nil, nil, nil
	other := func(x *Sequence) bool { return x == s }
	e.waiting = slices.DeleteFunc(e.waiting, other)
	e.running = slices.DeleteFunc(e.running, other)
}

// Admit starts requests, in their order, while there are rows, and pages for all the tokens that each may come to. Step
// admits them too.
func (e *Engine) Admit() {
	for len(e.waiting) > 0 && len(e.running) < e.options.Rows {
		s := e.waiting[0]
		if !e.tails.admit(s, e.running) {
			return
		}
		shared := e.shareable(s)
		e.pool.share(shared)
		own, ok := e.pool.take(PagesFor(s.most) - len(shared))
		if !ok {
			e.pool.give(shared)
			return
		}
		e.tails.share(s, e.pool, shared)
		s.pages, s.named = append(shared, own...), len(shared)
		if s.named > 0 {
			s.name = e.pool.pages[shared[s.named-1]].name
		}
		s.Shared = s.named * PageTokens
		s.cached = s.Shared
		e.Counts.Prompt, e.Counts.Shared = e.Counts.Prompt+len(s.Prompt), e.Counts.Shared+s.Shared
		e.running, e.waiting = append(e.running, s), e.waiting[1:]
		if s.pending() == 0 { // a prompt of one token, to be scored: there is nothing to compute
			e.end(s, Full)
		}
	}
}

// shareable is the known pages that a prompt begins with. They never hold the prompt's last token, which must be
// computed for its logits. No page is shared where there is a draft model, since the pool does not know the pages of
// its cache, nor where the prompt is scored, since all its tokens must be computed.
func (e *Engine) shareable(s *Sequence) []int32 {
	if _, drafts := e.options.Drafter.(*DraftModel); drafts || s.Echo {
		return nil
	}
	pages := e.pool.find(s.Prompt[:len(s.Prompt)-1])
	if e.tails != nil {
		pages = pages[:e.tails.shareable(e.pool, pages)]
	}
	return pages
}

// remember tells the pools the content of the sequence's pages that became full, and gives back those that no window
// reaches any more.
func (e *Engine) remember(s *Sequence) {
	for ; (s.named+1)*PageTokens <= s.cached; s.named++ {
		s.name = e.pool.learn(s.pages[s.named], s.name, s.Tokens[s.named*PageTokens:][:PageTokens])
		e.tails.learn(s, s.named, s.name)
	}
	e.tails.leave(s, s.cached)
}

// Step runs one pass: the next token of every request whose prompt is in the cache, and some more of the prompts of
// others.
func (e *Engine) Step() error {
	if err := e.Start(); err != nil {
		return err
	}
	return e.Land()
}

// Overlaps says that the device works on its own: what is done between Start and Land takes none of its time.
func (e *Engine) Overlaps() bool { return e.device.Ahead(Sampling{}) }

// Start starts the next pass, unless it has been started.
func (e *Engine) Start() error {
	e.Admit()
	if e.flying != nil {
		return nil
	}
	if err := e.propose(); err != nil {
		return err
	}
	f := e.gather()
	if len(f.rows) == 0 {
		return nil
	}
	e.flying = f
	return e.start(f)
}

// Land waits for the pass that is on its way, and gives the requests their tokens. On a device that runs on its own,
// the pass after it is started before its tokens are read.
func (e *Engine) Land() error {
	f := e.flying
	if e.flying = nil; f == nil {
		return nil
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
		if s.Reason == Running { // otherwise it ended while the pass ran
			if err := e.land(s, f.Rows[i].T, at, f.echoed[i], tokens[at:at+f.scored[i]]); err != nil {
				return err
			}
		}
		at += f.scored[i]
	}
	return nil
}

// land takes the results of a pass for one sequence: T of its tokens are in the cache now. The pass's scored tokens
// from at on are the sequence's own: the first echoed of them score the prompt, and what the device drew after the
// others is new.
func (e *Engine) land(s *Sequence, T, at, echoed int, tokens []int32) error {
	for i := range echoed {
		if err := e.judge(s, at+i, s.Tokens[s.cached+i+1]); err != nil {
			return err
		}
	}
	if len(tokens) > echoed {
		return e.extend(s, at+echoed, tokens[echoed:])
	}
	s.cached += T
	e.remember(s)
	if s.pending() == 0 {
		e.end(s, Full)
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

// extend gives a sequence its next token, and before it those of its guesses that the model agrees to. The sequence's
// scores in the pass are those from at on, and tokens are what the device drew for them.
func (e *Engine) extend(s *Sequence, at int, tokens []int32) error {
	guesses, chances := s.guesses, s.chances
	s.guesses, s.chances = nil, nil
	s.cached = len(s.Tokens)
	e.remember(s)
	e.Counts.Drafted += len(guesses)
	for i := 0; s.Reason == Running; i++ {
		token, taken := tokens[i], i < len(guesses) && tokens[i] == guesses[i]
		if len(guesses) > 0 && !s.Greedy() {
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
		if s.Score {
			if err := e.judge(s, at+i, token); err != nil {
				return err
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
	if !s.IgnoreEnd && slices.Contains(e.options.Ends, token) {
		s.stream.push(nil)
		e.end(s, Ended)
		return
	}
	var piece []byte
	if e.options.Vocabulary != nil {
		// an id beyond the tokenizer's has no text
		if text, err := e.options.Vocabulary.Decode([]int32{token}); err == nil {
			piece = text
		}
	}
	if s.stream.push(piece) {
		e.end(s, Stopped)
		return
	}
	if len(s.Tokens) == s.most {
		e.end(s, Full)
	}
}
