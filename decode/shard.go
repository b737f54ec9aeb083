package decode

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"headroom/attention"
	"headroom/model"
)

// Shard is the part of a model that device rank of size holds under tensor parallelism.
func (m *Model) Shard(rank, size int) (*Model, error) {
	t, err := m.Transformer.Shard(size)
	if err != nil {
		return nil, err
	}
	s := &Model{Transformer: t, Weights: map[string][]float32{}, Tokenizer: m.Tokenizer}
	if t.Config.Vocab < m.Config.Vocab {
		s.First, s.Whole = rank*t.Config.Vocab, m.Config.Vocab
	}
	whole := m.Params()
	for i, p := range t.Params() {
		s.Weights[p.Name] = model.Cut(m.Weights[p.Name], whole[i].Shape, p.Shape, rank, size)
	}
	return s, nil
}

// A sharded device is several that run every pass together, each over its shard.
type sharded []Device

// Divided is what a device implements whose Scores may be right for some tokens alone: those from first to end.
type Divided interface{ Scored() (first, end int) }

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

// Tokens asks all devices at the same time, since none continues without the others.
func (s sharded) Tokens() (tokens []int32, err error) {
	err = s.all(func(d Device) error {
		own, err := d.Tokens()
		if d == s[0] {
			tokens = own
		}
		return err
	})
	return tokens, err
}

// Scores are put together where each device has those of some tokens.
func (s sharded) Scores(i int) ([]float32, error) {
	scores, err := s[0].Scores(i)
	if d, ok := s[0].(Divided); err != nil || !ok {
		return scores, err
	} else if first, end := d.Scored(); end-first == len(scores) {
		return scores, nil
	}
	scores = slices.Clone(scores)
	for _, d := range s[1:] {
		part, err := d.Scores(i)
		if err != nil {
			return nil, err
		}
		first, end := d.(Divided).Scored()
		copy(scores[first:end], part[first:end])
	}
	return scores, nil
}

func (s sharded) Ahead(how Sampling) bool { return s[0].Ahead(how) }
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

// shards are backends that each hold a part of every model.
type shards struct {
	parts []Backend
	cut   map[*Model][]*Model // by the whole
}

// Sharded is a backend of several, each of which holds a part of every model. They run every pass together and sum up
// among themselves.
func Sharded(parts ...Backend) Backend { return &shards{parts, map[*Model][]*Model{}} }

func (b *shards) Name() string      { return fmt.Sprintf("%d x %s", len(b.parts), b.parts[0].Name()) }
func (b *shards) ElementBytes() int { return b.parts[0].ElementBytes() }
func (b *shards) Chunk() int        { return b.parts[0].Chunk() }

func (b *shards) Cache() attention.CacheType { return b.parts[0].Cache() }

// Bandwidth is of all parts together.
func (b *shards) Bandwidth() (float64, error) {
	one, err := b.parts[0].Bandwidth()
	return one * float64(len(b.parts)), err
}

// of cuts a model, once. One that differs in its context alone shares the weights that were cut.
func (b *shards) of(m *Model) ([]*Model, error) {
	if all := b.cut[m]; all != nil {
		return all, nil
	}
	var all []*Model
	for other, parts := range b.cut {
		if maps.EqualFunc(other.Weights, m.Weights, sameMemory) {
			for _, p := range parts {
				all = append(all, p.withContext(m.Config.Context))
			}
			delete(b.cut, other)
			break
		}
	}
	if len(b.cut) == 2 { // a model and its draft
		clear(b.cut)
	}
	if all == nil {
		all = make([]*Model, len(b.parts))
		errs := make([]error, len(all))
		var wait sync.WaitGroup
		for rank := range all {
			wait.Go(func() { all[rank], errs[rank] = m.Shard(rank, len(all)) })
		}
		wait.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
	}
	b.cut[m] = all
	return all, nil
}

func sameMemory(a, b []float32) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// Available is of the part that has least, as bytes of a whole cache: what all parts hold counts once.
func (b *shards) Available(m *Model, l Limits) (least int64, err error) {
	models, err := b.of(m)
	if err != nil {
		return 0, err
	}
	each, errs := make([]int64, len(b.parts)), make([]error, len(b.parts))
	var wait sync.WaitGroup
	for i, part := range b.parts { // beside each other, since they load their weights
		wait.Go(func() { each[i], errs[i] = part.Available(models[i], l) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	for i, n := range each {
		if n == 0 {
			return 0, nil
		}
		whole := n / int64(models[i].CacheBytes(1, b.Cache())) * int64(m.CacheBytes(1, b.Cache()))
		if i == 0 || whole < least {
			least = whole
		}
	}
	return least, nil
}

func (b *shards) Open(m *Model, l Limits) (Device, error) {
	models, err := b.of(m)
	if err != nil {
		return nil, err
	}
	s := make(sharded, len(b.parts))
	errs := make([]error, len(s))
	var wait sync.WaitGroup
	for i, part := range b.parts {
		wait.Go(func() { s[i], errs[i] = part.Open(models[i], l) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		for i, d := range s {
			if errs[i] == nil {
				d.Close()
			}
		}
		return nil, err
	}
	return s, nil
}

func (b *shards) Close() (err error) {
	for _, part := range b.parts {
		err = errors.Join(err, part.Close())
	}
	return err
}
