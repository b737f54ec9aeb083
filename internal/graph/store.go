package graph

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
)

// A Store holds the values of a model's parameters on a device, and while training their gradients and AdamW's two
// moments: one flat float32 buffer each, with every parameter at the same offset in all of them. Parameters with weight
// decay come first, so that decay is one boundary. Programs and trainers over one store share its values. In a group
// each rank holds the moments of its own part only, and where kernels read a copy, the values of that part only; with
// ShardWeights it holds nothing of the others' parts.
type Store struct {
	Backend Backend
	Group   Group // nil for a process alone
	Shard   Sharding

	params  []Param // in the order given
	index   map[string]int
	offset  []int // in elements
	size    int   // of a flat buffer, padding included
	lo, hi  int   // what this rank updates
	decayed int
	whole   map[string]whole // what Assemble left on rank 0
	values  owned
	compute owned // what kernels read: values itself, or a copy in the backend's storage type
	grads   owned
	m, v    owned
}

// NewStore allocates the values of params, all zero. Call Init or Set before use.
func NewStore(backend Backend, params []Param) (*Store, error) {
	return NewGroupStore(backend, params, nil, ShardOptimizer)
}

// NewGroupStore is NewStore for one rank of a group, or for a process alone where the group is nil.
func NewGroupStore(backend Backend, params []Param, group Group, shard Sharding) (*Store, error) {
	if group == nil {
		shard = ShardOptimizer
	}
	s := &Store{Backend: backend, Group: group, Shard: shard, params: params, index: map[string]int{},
		offset: make([]int, len(params))}
	order := make([]int, len(params))
	for i, p := range params {
		if _, dup := s.index[p.Name]; dup {
			return nil, fmt.Errorf("graph: two parameters are named %s", p.Name)
		}
		if err := fits(p.Shape); err != nil {
			return nil, fmt.Errorf("graph: parameter %s: %w", p.Name, err)
		}
		s.index[p.Name], order[i] = i, i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(bit(!params[a].Decay), bit(!params[b].Decay)) })
	for _, i := range order {
		s.offset[i] = s.size
		s.size += (params[i].Size() + 63) / 64 * 64
		if params[i].Decay {
			s.decayed = s.size
		}
	}
	s.hi = s.size
	if group != nil {
		n := group.Size() * 64
		s.size = (s.size + n - 1) / n * n
		part := s.size / group.Size()
		s.lo, s.hi = group.Rank()*part, (group.Rank()+1)*part
	}
	var err error
	if t := backend.Activation(); t != F32 {
		if s.values, err = s.own(); err == nil {
			s.compute, err = s.read(t)
		}
		return s, err
	}
	s.compute, err = s.read(F32)
	s.values = s.compute
	return s, err
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *Store) alloc(t DType, n int) (Buf, error) {
	mem, err := s.Backend.Alloc(n * t.Size())
	if err != nil {
		err = fmt.Errorf("graph: no room for the parameters and what training keeps of them: %w", err)
	}
	return Buf{Mem: mem, Len: n, Type: t}, err
}

// own allocates this rank's part of a flat float32 buffer.
func (s *Store) own() (owned, error) {
	b, err := s.alloc(F32, s.hi-s.lo)
	return owned{b, s.lo}, err
}

// read allocates a flat buffer for what kernels read or write: all of it, or this rank's part with ShardWeights.
func (s *Store) read(t DType) (owned, error) {
	if s.Shard == ShardWeights {
		b, err := s.alloc(t, s.hi-s.lo)
		return owned{b, s.lo}, err
	}
	b, err := s.alloc(t, s.size)
	return owned{Buf: b}, err
}

// train allocates gradients and moments, once.
func (s *Store) train() (err error) {
	if s.grads.Mem != nil {
		return nil
	}
	if s.m, err = s.own(); err != nil {
		return err
	}
	if s.v, err = s.own(); err != nil {
		return err
	}
	s.grads, err = s.read(F32)
	return err
}

// Params lists the parameters in the order in which the store was made.
func (s *Store) Params() []Param { return s.params }

// at is where a parameter lies in a flat buffer.
func (s *Store) at(name string) (lo, hi int, err error) {
	i, ok := s.index[name]
	if !ok {
		return 0, 0, fmt.Errorf("graph: no parameter is named %s", name)
	}
	return s.offset[i], s.offset[i] + s.params[i].Size(), nil
}

// view is the part of a whole flat buffer that belongs to one parameter.
func (s *Store) view(b owned, name string) (Buf, error) {
	lo, hi, err := s.at(name)
	if err != nil {
		return Buf{}, err
	}
	return b.part(lo, hi), nil
}

// mine is what a flat buffer has of the part that this rank updates.
func (s *Store) mine(b owned) Buf {
	part, _ := b.overlap(s.lo, s.hi)
	return part
}

// Init draws every parameter from its own stream of seed, so that a parameter's start does not depend on which others
// there are, nor on how many cores draw.
func (s *Store) Init(seed uint64) error {
	queue, errs := make(chan Param, len(s.params)), make(chan error)
	for _, p := range s.params {
		queue <- p
	}
	close(queue)
	var device sync.Mutex
	workers := runtime.GOMAXPROCS(0)
	for range workers {
		go func() {
			var err error
			for p := range queue {
				x := p.draw(seed)
				device.Lock()
				err = errors.Join(err, s.Set(p.Name, x))
				device.Unlock()
			}
			errs <- err
		}()
	}
	var err error
	for range workers {
		err = errors.Join(err, <-errs)
	}
	return err
}

// draw gives a parameter its values of a seed.
func (p Param) draw(seed uint64) []float32 {
	h := fnv.New64a()
	h.Write([]byte(p.Name))
	r := rand.New(rand.NewPCG(seed, h.Sum64()))
	x := make([]float32, p.Size())
	for i := range x {
		x[i] = float32(p.Init.Mean)
		if p.Init.Std != 0 {
			x[i] += float32(p.Init.Std * r.NormFloat64())
		}
	}
	return x
}

// whole is a parameter on the host.
type whole struct{ values, m, v []float32 }

// Assemble collects values and moments from all ranks of the group, which call it together. Rank 0 keeps them until the
// next step: its Value and Moments are then those of the whole model, without the others. Alone there is nothing to do.
func (s *Store) Assemble() error {
	if s.Group == nil {
		return nil
	}
	s.whole = nil
	all := map[string]whole{}
	for _, p := range s.params {
		values, err := s.Value(p.Name)
		if err != nil {
			return err
		}
		m, v, err := s.Moments(p.Name)
		if err != nil {
			return err
		}
		if s.Group.Rank() == 0 {
			all[p.Name] = whole{values, m, v}
		}
	}
	s.whole = all
	return nil
}

// Value copies a parameter's values out. In a group all ranks call it together, as Grad and Moments.
func (s *Store) Value(name string) ([]float32, error) {
	if w, ok := s.whole[name]; ok {
		return w.values, nil
	}
	return s.download(s.values, name)
}

// Grad copies a parameter's gradient of the last step out, before clipping.
func (s *Store) Grad(name string) ([]float32, error) {
	if s.grads.Mem == nil {
		return nil, fmt.Errorf("graph: %s has no gradient before the first training step", name)
	}
	return s.download(owned{s.mine(s.grads), s.lo}, name)
}

// Moments copies AdamW's two moments of a parameter out.
func (s *Store) Moments(name string) (m, v []float32, err error) {
	if w, ok := s.whole[name]; ok {
		return w.m, w.v, nil
	}
	if err := s.train(); err != nil {
		return nil, nil, err
	}
	if m, err = s.download(s.m, name); err == nil {
		v, err = s.download(s.v, name)
	}
	return m, v, err
}

// Set gives a parameter its values.
func (s *Store) Set(name string, x []float32) error {
	if err := s.upload(s.values, name, x); err != nil || s.compute.Mem == s.values.Mem {
		return err
	}
	return s.upload(s.compute, name, x)
}

// SetMoments gives a parameter its two moments.
func (s *Store) SetMoments(name string, m, v []float32) error {
	if err := s.train(); err != nil {
		return err
	}
	if err := s.upload(s.m, name, m); err != nil {
		return err
	}
	return s.upload(s.v, name, v)
}

func (s *Store) download(from owned, name string) ([]float32, error) {
	lo, hi, err := s.at(name)
	if err != nil {
		return nil, err
	}
	x := make([]float32, hi-lo)
	if from.Len == s.size {
		return x, s.Backend.Download(x, from.part(lo, hi))
	}
	if b, skip := from.overlap(lo, hi); b.Len > 0 {
		if err := s.Backend.Download(x[skip:skip+b.Len], b); err != nil {
			return nil, err
		}
	}
	all, err := s.alloc(F32, len(x))
	if err != nil {
		return nil, err
	}
	defer s.Backend.Free(all.Mem)
	if err := s.Backend.Upload(all, x); err != nil {
		return nil, err
	}
	if err := s.Group.Merge(all); err != nil {
		return nil, err
	}
	return x, s.Backend.Download(x, all)
}

func (s *Store) upload(to owned, name string, x []float32) error {
	lo, hi, err := s.at(name)
	if err != nil {
		return err
	}
	if len(x) != hi-lo {
		return fmt.Errorf("graph: %s has %d elements, not %d", name, hi-lo, len(x))
	}
	b, skip := to.overlap(lo, hi)
	if b.Len == 0 {
		return nil
	}
	return s.Backend.Upload(b, x[skip:skip+b.Len])
}

// Close frees the store's memory.
func (s *Store) Close() {
	for _, b := range []Buf{s.values.Buf, s.grads.Buf, s.m.Buf, s.v.Buf} {
		if b.Mem != nil {
			s.Backend.Free(b.Mem)
		}
	}
	if s.compute.Mem != s.values.Mem {
		s.Backend.Free(s.compute.Mem)
	}
}
