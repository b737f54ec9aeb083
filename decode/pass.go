package decode

import (
	"cmp"
	"slices"
)

// A flight is a pass that was started.
type flight struct {
	Batch
	rows   []*Sequence
	scored []int // tokens of each row whose logits are wanted
	echoed []int // of them, those that score the prompt; a token is drawn after the others
}

// pending is how many of the sequence's tokens have to go into the cache yet.
func (s *Sequence) pending() int {
	n := len(s.Tokens) - s.cached
	if s.MaxTokens == 0 {
		n-- // no token is drawn after the last
	}
	return n
}

// scoring says that the prompt is to be scored, and is not yet.
func (s *Sequence) scoring() bool { return s.Echo && s.cached < len(s.Prompt) }

// gather puts together the next pass. Requests of few new tokens come first, and those of equally many stand side by
// side, since a device serves them together.
func (e *Engine) gather() *flight {
	f := &flight{}
	portions := e.portions()
	for _, s := range e.running {
		if s.pending() == 1 {
			portions[s] = 1
		}
	}
	rows := slices.DeleteFunc(slices.Clone(e.running), func(s *Sequence) bool { return portions[s] == 0 })
	slices.SortStableFunc(rows, func(a, b *Sequence) int {
		return cmp.Compare(portions[a]+len(a.guesses), portions[b]+len(b.guesses))
	})
	steps := 0
	for steps < len(rows) && portions[rows[steps]]+len(rows[steps].guesses) == 1 {
		steps++
	}
	settle(rows[:steps])
	for _, s := range rows {
		n := portions[s]
		tokens := s.Tokens[s.cached : s.cached+n]
		last := s.cached+n == len(s.Tokens)
		scored, echoed := 0, 0
		switch {
		case last && s.scoring():
			scored, echoed = n, n-1
		case last:
			tokens, scored = append(slices.Clip(tokens), s.guesses...), 1+len(s.guesses)
		case s.scoring():
			scored, echoed = n, n
		}
		f.Add(s.pages, s.cached, tokens, scored)
		f.Rows[len(f.Rows)-1].Tail = e.tails.reach(s, s.cached+len(tokens))
		if scored == echoed+1 {
			f.Draws[len(f.Draws)-1] = s.draw()
		}
		f.rows, f.scored, f.echoed = append(f.rows, s), append(f.scored, scored), append(f.echoed, echoed)
	}
	return f
}

// settle gives requests the rows that they had in the pass before, where a device still has their pages. The others,
// new ones and those whose row is gone, fill the rows between.
func settle(rows []*Sequence) {
	settled := make([]*Sequence, len(rows))
	var others []*Sequence
	for _, s := range rows {
		if s.row >= 0 && s.row < len(rows) && settled[s.row] == nil {
			settled[s.row] = s
		} else {
			others = append(others, s)
		}
	}
	for i := range settled {
		if settled[i] == nil {
			settled[i], others = others[0], others[1:]
		}
		settled[i].row = i
	}
	copy(rows, settled)
}

// portions divides the chunk among the prompts: half to the oldest, so that none waits for ever, and the rest to those
// that need least, so that short prompts do not wait for long ones. Where it can, a prompt's part ends at the end of a
// page.
func (e *Engine) portions() map[*Sequence]int {
	chunk, scored := e.options.Chunk, min(e.options.Scored, e.options.Chunk)
	portions := map[*Sequence]int{}
	spare := e.tails.spare(e.running)
	deal := func(s *Sequence, most int) {
		n := min(most, chunk, s.pending()-portions[s])
		if s.scoring() {
			n = min(n, scored)
		}
		has := 0
		if e.tails != nil {
			has = e.tails.has(s, s.cached+portions[s])
			n = min(n, (s.behind+has+spare)*PageTokens-s.cached-portions[s])
		}
		if over := (s.cached + portions[s] + n) % PageTokens; over < n && n < s.pending()-portions[s] {
			n -= over
		}
		if s.scoring() {
			scored -= n
		}
		chunk -= n
		portions[s] += n
		if e.tails != nil {
			spare -= e.tails.has(s, s.cached+portions[s]) - has
		}
	}
	prompts := slices.DeleteFunc(slices.Clone(e.running), func(s *Sequence) bool { return s.pending() < 2 })
	if len(prompts) == 0 {
		return portions
	}
	oldest := prompts[0]
	deal(oldest, (chunk+1)/2)
	slices.SortStableFunc(prompts, func(a, b *Sequence) int { return cmp.Compare(a.pending(), b.pending()) })
	for _, s := range prompts {
		deal(s, chunk)
	}
	return portions
}

// draw is how the sequence's next token is drawn.
func (s *Sequence) draw() Draw {
	d := Draw{Sampling: s.Sampling}
	if !s.Greedy() {
		d.U = s.random.Float64()
	}
	if s.Penalizes() {
		d.History = s.Tokens
	}
	return d
}

// mayFollow says that the pass after f is known but for its tokens, unless one of them ends a text.
func (e *Engine) mayFollow(f *flight) bool {
	if e.options.Drafter != nil || len(f.rows) != len(e.running) {
		return false
	}
	for i, s := range f.rows {
		if s.Reason != Running || f.scored[i] != 1 || len(s.Tokens)+1 >= s.most || s.Penalizes() || s.Score ||
			!e.device.Ahead(s.Sampling) {
			return false
		}
	}
	return true
}

// follow is the pass after f: each row's token is what f draws for it.
func (e *Engine) follow(f *flight) *flight {
	next := &flight{rows: f.rows, scored: f.scored, echoed: f.echoed}
	for i, s := range f.rows {
		next.Add(s.pages, f.Rows[i].Start+f.Rows[i].T, []int32{Drawn(i)}, 1)
		next.Draws[i] = s.draw()
		next.Rows[i].Tail = e.tails.reach(s, f.Rows[i].Start+f.Rows[i].T+1)
	}
	return next
}
