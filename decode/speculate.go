package decode

import (
	"fmt"
	"slices"
)

// A Drafter guesses the tokens that come next; the model then checks all guesses of a sequence in one pass, so that
// what comes is distributed as without guesses, and greedy output is the same.
type Drafter interface {
	// propose gives each sequence up to most guesses, with the distribution that each was drawn from.
	propose(rows []*Sequence, most []int) error
	longest() int // most guesses at a time
}

// propose asks the drafter for the sequences whose prompt is in the cache.
func (e *Engine) propose() error {
	if e.options.Drafter == nil {
		return nil
	}
	var rows []*Sequence
	var most []int
	for _, s := range e.running {
		n := min(e.options.Drafter.longest(), s.most-len(s.Tokens)-1) // one token comes anyway
		if e.tails != nil {
			n = min(n, tailTokens-1)
		}
		if s.cached == len(s.Tokens)-1 && n > 0 {
			rows, most = append(rows, s), append(most, n)
		}
	}
	return e.options.Drafter.propose(rows, most)
}

// Lookup guesses that what followed the last few tokens when they came before follows them again.
type Lookup struct{ Guesses int }

const lookupTokens = 3 // and where they were never there, fewer

func (l Lookup) longest() int { return l.Guesses }

func (l Lookup) propose(rows []*Sequence, most []int) error {
	for i, s := range rows {
		s.guesses = lookup(s.Tokens, most[i])
		s.chances = make([][]float64, len(s.guesses)) // certain
	}
	return nil
}

func lookup(tokens []int32, most int) []int32 {
	for n := min(lookupTokens, len(tokens)-1); n > 0; n-- {
		tail := tokens[len(tokens)-n:]
		for at := len(tokens) - n - 1; at >= 0; at-- {
			if slices.Equal(tokens[at:at+n], tail) {
				return slices.Clone(tokens[at+n : min(at+n+most, len(tokens))])
			}
		}
	}
	return nil
}

// A DraftModel guesses with a smaller model of any kind. Its cache has as many pages as the engine's, and the same ones
// for a sequence.
type DraftModel struct {
	model   *Model
	device  Device
	guesses int
}

// NewDraftModel makes a drafter for an engine of a model with these options, on a device of its own.
func NewDraftModel(draft *Model, on Backend, o Options, guesses int, target *Model) (*DraftModel, error) {
	if draft.Tokenizer != target.Tokenizer || draft.Config.Vocab != target.Config.Vocab {
		return nil,
			fmt.Errorf("decode: the draft model has tokenizer %q with %d tokens, the model %q with %d: they must be the same",
				draft.Tokenizer, draft.Config.Vocab, target.Tokenizer, target.Config.Vocab)
	}
	if guesses < 1 {
		return nil, fmt.Errorf("decode: a draft model must guess at least one token, not %d", guesses)
	}
	l, err := o.Limits(draft)
	if err != nil {
		return nil, err
	}
	l.Tokens, l.Tail = l.Rows*draftChunk, 0 // layers with windows keep all, as the draft goes on from where it likes
	d, err := on.Open(draft, l)
	return &DraftModel{draft, d, guesses}, err
}

func (d *DraftModel) longest() int { return d.guesses }

func (d *DraftModel) propose(rows []*Sequence, most []int) error {
	for i, s := range rows {
		if len(s.Tokens)+most[i] > d.model.Config.Context {
			most[i] = 0
		}
	}
	for {
		var b Batch
		var asked []*Sequence
		for i, s := range rows {
			if len(s.guesses) == most[i] {
				continue
			}
			tokens, score := append(slices.Clip(s.Tokens), s.guesses...)[s.drafted:], 1
			if len(tokens) > draftChunk {
				tokens, score = tokens[:draftChunk], 0
			}
			b.Add(s.pages, s.drafted, tokens, score)
			s.drafted += len(tokens)
			if score > 0 {
				asked = append(asked, s)
			}
		}
		if len(b.Rows) == 0 {
			return nil
		}
		if err := d.device.Pass(b); err != nil {
			return fmt.Errorf("decode: draft: %w", err)
		}
		tokens, err := d.device.Tokens()
		if err != nil {
			return fmt.Errorf("decode: draft: %w", err)
		}
		for i, s := range asked {
			guess, q := tokens[i], []float64(nil)
			if !s.Greedy() {
				l, err := d.device.Scores(i)
				if err != nil {
					return fmt.Errorf("decode: draft: %w", err)
				}
				q = s.odds(l, append(slices.Clip(s.Tokens), s.guesses...))
				guess = draw(s.proposer.Float64(), q)
			}
			s.guesses, s.chances = append(s.guesses, guess), append(s.chances, q)
		}
	}
}

// draftChunk is how many tokens of a sequence the draft model takes in a pass, when it is behind.
const draftChunk = 256
