package decode

// What the tests outside of this package see of the inside: they stand there because they need a device.

// Odds is the distribution that the next token is drawn from.
func (s Sampling) Odds(logits []float32, history []int32) []float64 { return s.odds(logits, history) }

// DrawAt picks the token at u.
func DrawAt(u float64, p []float64) int32 { return draw(u, p) }

// ChiSquared is that of sample_test.go.
var ChiSquared = chiSquared

// Propose lets the drafter guess.
func (e *Engine) Propose() error { return e.propose() }

// Guesses are what the drafter proposes next, each with the distribution that it was drawn from.
func (s *Sequence) Guesses() ([]int32, [][]float64) { return s.guesses, s.chances }

// Flying is the pass that is on its way.
func (e *Engine) Flying() (sequences []*Sequence, rows []Row) { return e.flying.rows, e.flying.Rows }

// PageUsers is how many requests have each page: as the pool counts them, and as the requests say.
func (e *Engine) PageUsers() (counted, real []int) {
	real = make([]int, e.pool.total)
	for _, s := range e.running {
		for _, p := range s.pages {
			real[p]++
		}
	}
	for _, p := range e.pool.pages {
		counted = append(counted, p.users)
	}
	return counted, real
}

// KnownPages is how many pages are known by their content.
func (e *Engine) KnownPages() int { return len(e.pool.known) }

// TailUsers is PageUsers of the pool of layers with windows, and how many pages are promised or held above promises.
func (e *Engine) TailUsers() (counted, real []int, bound int) {
	real = make([]int, e.tails.total)
	for _, s := range e.running {
		for i, p := range s.tail {
			if (p < 0) != (i < s.behind) {
				panic("a page behind the window is held, or one in it is not")
			}
			if p >= 0 {
				real[p]++
			}
		}
		bound += e.tails.has(s, 0)
	}
	for _, p := range e.tails.pages {
		counted = append(counted, p.users)
	}
	return counted, real, bound
}

// KnownTails is how many pages of layers with windows are known by their content, and how many of them are kept.
func (e *Engine) KnownTails() (known, kept int) { return len(e.tails.known), e.tails.kept.Len() }
