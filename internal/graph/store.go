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
// moments: one flat float32 buffer each, with every parameter at the same offset in all of them. Parameters with
// weight decay come first, so that decay is one boundary. Programs and trainers over one store share its values.
type Store struct {
	Backend Backend

	params  []Param // in the order given
	index   map[string]int
	offset  []int // in elements
	size    int   // of a flat buffer, padding included
	decayed int
	values  Buf
	compute Buf // what kernels read: values itself, or a copy in the backend's storage type
	grads   Buf
	m, v    Buf
}

// NewStore allocates the values of params, all zero. Call Init or Set before use.
func NewStore(backend Backend, params []Param) (*Store, error) {
	s := &Store{Backend: backend, params: params, index: map[string]int{}, offset: make([]int, len(params))}
	order := make([]int, len(params))
	for i, p := range params {
		if _, dup := s.index[p.Name]; dup {
			return nil, fmt.Errorf("graph: two parameters are named %s", p.Name)
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
	var err error
	if s.values, err = s.flat(F32); err != nil {
		return nil, err
	}
	s.compute = s.values
	if t := backend.Activation(); t != F32 {
		s.compute, err = s.flat(t)
	}
	return s, err
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *Store) flat(t DType) (Buf, error) {
	mem, err := s.Backend.Alloc(s.size * t.Size())
	return Buf{Mem: mem, Len: s.size, Type: t}, err
}

// train allocates gradients and moments, once.
func (s *Store) train() (err error) {
	for _, b := range []*Buf{&s.grads, &s.m, &s.v} {
		if b.Mem == nil {
			if *b, err = s.flat(F32); err != nil {
				return err
			}
		}
	}
	return nil
}

// Params lists the parameters in the order in which the store was made.
func (s *Store) Params() []Param { return s.params }

// view is the part of a flat buffer that belongs to one parameter.
func (s *Store) view(b Buf, name string) (Buf, error) {
	i, ok := s.index[name]
	if !ok {
		return Buf{}, fmt.Errorf("graph: no parameter is named %s", name)
	}
	b.Off += s.offset[i] * b.Type.Size()
	b.Len = s.params[i].Size()
	return b, nil
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

// Value copies a parameter's values out.
func (s *Store) Value(name string) ([]float32, error) { return s.download(s.values, name) }

// Grad copies a parameter's gradient of the last step out, before clipping.
func (s *Store) Grad(name string) ([]float32, error) { return s.download(s.grads, name) }

// Moments copies AdamW's two moments of a parameter out.
func (s *Store) Moments(name string) (m, v []float32, err error) {
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

func (s *Store) download(from Buf, name string) ([]float32, error) {
	b, err := s.view(from, name)
	if err != nil {
		return nil, err
	}
	if b.Mem == nil {
		return nil, fmt.Errorf("graph: %s has no gradient before the first training step", name)
	}
	x := make([]float32, b.Len)
	return x, s.Backend.Download(x, b)
}

func (s *Store) upload(to Buf, name string, x []float32) error {
	b, err := s.view(to, name)
	if err != nil {
		return err
	}
	if len(x) != b.Len {
		return fmt.Errorf("graph: %s has %d elements, not %d", name, b.Len, len(x))
	}
	return s.Backend.Upload(b, x)
}

// Close frees the store's memory.
func (s *Store) Close() {
	for _, b := range []Buf{s.values, s.grads, s.m, s.v} {
		if b.Mem != nil {
			s.Backend.Free(b.Mem)
		}
	}
	if s.compute.Mem != s.values.Mem {
		s.Backend.Free(s.compute.Mem)
	}
}
