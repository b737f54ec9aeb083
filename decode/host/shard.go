package host

import (
	"sync"

	"headroom/attention"
	"headroom/decode"
)

// Sharded is this machine's processor in several parts that hold shards of a model, as so many GPUs would, with caches
// of a type. One part holds the whole.
func Sharded(parts int, cache attention.CacheType) decode.Backend {
	if parts == 1 {
		return backend{cache}
	}
	var all []decode.Backend
	sum := NewSum(parts)
	for rank := range parts {
		all = append(all, part{backend{cache}, rank, sum})
	}
	return decode.Sharded(all...)
}

// A part is one of several backends that share a model. Its sum serves one device at a time.
type part struct {
	backend
	rank int
	sum  *Sum
}

func (b part) Open(m *decode.Model, l decode.Limits) (decode.Device, error) {
	d, err := b.backend.Open(m, l)
	if err == nil {
		d.(*Device).sum = func(x []float32) { b.sum.All(b.rank, x) }
	}
	return d, err
}

// A Sum adds up what the parts of a pass have, in the order of their ranks: all get the same bits.
type Sum struct {
	mu    sync.Mutex
	come  sync.Cond
	terms [][]float32
	here  int
	turn  int
}

// NewSum is a sum over so many ranks.
func NewSum(ranks int) *Sum {
	s := &Sum{terms: make([][]float32, ranks)}
	s.come.L = &s.mu
	return s
}

// Ranks is how many there are.
func (s *Sum) Ranks() int { return len(s.terms) }

// All replaces x by the sum of every rank's.
func (s *Sum) All(rank int, x []float32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.terms[rank] = x
	turn := s.turn
	if s.here++; s.here < len(s.terms) {
		for s.turn == turn {
			s.come.Wait()
		}
		return
	}
	total := s.terms[0]
	for _, t := range s.terms[1:] {
		for i, v := range t {
			total[i] += v
		}
	}
	for _, t := range s.terms[1:] {
		copy(t, total)
	}
	s.here, s.turn = 0, turn+1
	s.come.Broadcast()
}
