package data

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Part is one source of a mixture.
type Part struct {
	Path   string // folder, glob or file of shards
	Weight float64
}

// ParseMixture reads where training data come from: one path, or several with their weights, as in
// "shards/web:0.7,shards/books:0.3".
func ParseMixture(text string) ([]Part, error) {
	var parts []Part
	for _, one := range strings.Split(text, ",") {
		at := strings.LastIndexByte(one, ':')
		if at < 0 {
			return []Part{{text, 1}}, nil
		}
		weight, err := strconv.ParseFloat(one[at+1:], 64)
		if err != nil {
			return []Part{{text, 1}}, nil // a single path that has a colon
		}
		if !(weight > 0 && weight < 1e12) || at == 0 {
			return nil, fmt.Errorf("data: train has %q: must be a path and a weight above 0, as in shards/web:0.7", one)
		}
		parts = append(parts, Part{one[:at], weight})
	}
	return parts, nil
}

// slots is the number of windows in a round of a mixture. Every round has each source's share of them, in an order of
// its own, so that the shares are exact from the start and the source of a window follows from its position alone.
const slots = 1024

// A source is one of a loader's.
type source struct {
	tokens       *Tokens
	windows      int64 // of an epoch
	first, slots int64 // of a round
}

// NewMixture returns a loader over several sources, each by its weight; each goes through epochs of its own.
func NewMixture(tokens []*Tokens, weights []float64, t int, seed uint64, rank, world int) (*Loader, error) {
	if len(tokens) == 0 || len(tokens) != len(weights) {
		panic(fmt.Sprintf("data: %d sources and %d weights", len(tokens), len(weights)))
	}
	l, err := NewLoader(tokens[0], t, seed, rank, world)
	if err != nil || len(tokens) == 1 {
		return l, err
	}
	shares, err := deal(weights)
	if err != nil {
		return nil, err
	}
	l.sources, l.state.Tokens = nil, 0
	var names []string
	first := int64(0)
	for i, of := range tokens {
		if of.Len() <= int64(t) {
			return nil, fmt.Errorf("data: %d tokens: a window of T %d needs %d", of.Len(), t, t+1)
		}
		l.sources = append(l.sources, source{of, (of.Len() - 1) / int64(t), first, shares[i]})
		l.state.Tokens += of.Len()
		first += shares[i]
		names = append(names, fmt.Sprintf("%d of %d", shares[i], of.Len()))
	}
	l.state.Mixture = strings.Join(names, ", ")
	return l, nil
}

// deal divides the slots of a round by weights: whole parts first, then one slot each to the largest remainders.
func deal(weights []float64) ([]int64, error) {
	var sum float64
	for _, w := range weights {
		sum += w
	}
	shares, order := make([]int64, len(weights)), make([]int, len(weights))
	left := int64(slots)
	rest := make([]float64, len(weights))
	for i, w := range weights {
		exact := w / sum * slots
		shares[i], order[i] = int64(exact), i
		rest[i] = exact - float64(shares[i])
		left -= shares[i]
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case rest[a] > rest[b]:
			return -1
		case rest[a] < rest[b]:
			return 1
		}
		return 0
	})
	for _, i := range order[:left] {
		shares[i]++
	}
	for i, n := range shares {
		if n == 0 {
			return nil, fmt.Errorf("data: a weight of %v among a sum of %v is less than one window in %d: leave the source out",
				weights[i], sum, slots)
		}
	}
	return shares, nil
}

// pick is the source of the window at a position, and the window's number within that source.
func (l *Loader) pick(p int64) (*source, int64) {
	if len(l.sources) == 1 {
		return &l.sources[0], p
	}
	round := p / slots
	slot := permute(p%slots, slots, mix(mix(l.state.Seed+1)+uint64(round)))
	for i := range l.sources {
		if s := &l.sources[i]; slot < s.first+s.slots {
			return s, round*s.slots + slot - s.first
		}
	}
	panic("data: a slot of no source")
}
