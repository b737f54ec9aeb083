package decode

import (
	"errors"
	"fmt"
	"sync"

	"headroom/model"
)

// Shard is the part of a model that device rank of size holds under tensor parallelism.
func (m *Model) Shard(rank, size int) (*Model, error) {
	t, err := m.Transformer.Shard(size)
	if err != nil {
		return nil, err
	}
	s := &Model{Transformer: t, Weights: map[string][]float32{}, Tokenizer: m.Tokenizer}
	whole := m.Params()
	for i, p := range t.Params() {
		s.Weights[p.Name] = model.Cut(m.Weights[p.Name], whole[i].Shape, p.Shape, rank, size)
	}
	return s, nil
}

// A sharded device is several that run every pass together, each over its shard. All come to the same logits; the first is
// asked for them.
type sharded []Device

func (s sharded) all(f func(Device) error) error {
	errs := make([]error, len(s))
	var wait sync.WaitGroup
	for i, d := range s {
		wait.Go(func() { errs[i] = f(d) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (s sharded) Pass(b Batch) error { return s.all(func(d Device) error { return d.Pass(b) }) }

func (s sharded) Tokens() (tokens []int32, err error) {
	for i, d := range s {
		own, err := d.Tokens()
		if err != nil {
			return nil, err
		}
		if i == 0 {
			tokens = own
		}
	}
	return tokens, nil
}

func (s sharded) Ahead(how Sampling) bool         { return s[0].Ahead(how) }
func (s sharded) Scores(i int) ([]float32, error) { return s[0].Scores(i) }
func (s sharded) Noise(seed uint64) error {
	return s.all(func(d Device) error { return d.Noise(seed) })
}
func (s sharded) Close() error { return s.all(Device.Close) }

// CacheBytes is of all devices together.
func (s sharded) CacheBytes() (n int64) {
	for _, d := range s {
		n += d.CacheBytes()
	}
	return n
}

// OnCPUs is OnCPU in several parts that hold shards of a model, as so many GPUs would.
func OnCPUs(parts int) Backend {
	if parts == 1 {
		return OnCPU()
	}
	return cpuParts{cpuBackend{}, parts}
}

type cpuParts struct {
	cpuBackend
	parts int
}

func (b cpuParts) Name() string { return fmt.Sprintf("cpu in %d parts", b.parts) }

func (b cpuParts) Open(m *Model, l Limits) (Device, error) {
	var s sharded
	sum := &sum{terms: make([][]float32, b.parts)}
	sum.come.L = &sum.mu
	for rank := range b.parts {
		part, err := m.Shard(rank, b.parts)
		if err != nil {
			return nil, err
		}
		d, err := b.cpuBackend.Open(part, l)
		if err != nil {
			return nil, err
		}
		d.(*CPU).sum = func(x []float32) { sum.all(rank, x) }
		s = append(s, d)
	}
	return s, nil
}

// A sum adds up what the parts of a pass have, in the order of their ranks: all get the same bits.
type sum struct {
	mu    sync.Mutex
	come  sync.Cond
	terms [][]float32
	here  int
	turn  int
}

// all replaces x by the sum of every rank's.
func (s *sum) all(rank int, x []float32) {
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
