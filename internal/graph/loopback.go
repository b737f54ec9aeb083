package graph

import (
	"errors"
	"fmt"
	"sync"
)

// loop is a group whose ranks are goroutines with a CPU backend each: they meet at every collective.
type loop struct {
	*meeting
	rank int
}

type meeting struct {
	size  int
	mu    sync.Mutex
	all   *sync.Cond
	bufs  []Buf
	count int
	round int
}

// Loopback makes a group of ranks in one process, for tests: each has a CPU backend and a goroutine of its own.
func Loopback(size int) []Group {
	m := &meeting{size: size, bufs: make([]Buf, size)}
	m.all = sync.NewCond(&m.mu)
	groups := make([]Group, size)
	for rank := range groups {
		groups[rank] = &loop{m, rank}
	}
	return groups
}

// meet has the last who comes do the work over everybody's buffer.
func (l *loop) meet(b Buf, work func(bufs []Buf)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bufs[l.rank] = b
	round := l.round
	if l.count++; l.count == l.size {
		work(l.bufs)
		l.count = 0
		l.round++
		l.all.Broadcast()
	}
	for l.round == round {
		l.all.Wait()
	}
	return nil
}

func (l *loop) Rank() int  { return l.rank }
func (l *loop) Size() int  { return l.size }
func (l *loop) Abort()     {}
func (*loop) Close() error { return nil }

// Reduce is done when start has been run; wait says whether there was one.
func (l *loop) Reduce(b Buf, to int) (start, wait Kernel, err error) {
	done := false
	start = func() error {
		done = true
		return l.meet(b, func(bufs []Buf) {
			sum := floats(bufs[to])
			for r, x := range bufs {
				if r != to {
					for i, x := range floats(x) {
						sum[i] += x
					}
				}
			}
		})
	}
	return start, l.ended(&done), nil
}

func (l *loop) Gather(b Buf) error {
	return l.meet(b, func(bufs []Buf) {
		part := b.Len / l.size
		for r := range bufs {
			for other := range bufs {
				copy(tokens(bufs[other])[r*part:(r+1)*part], tokens(bufs[r])[r*part:(r+1)*part])
			}
		}
	})
}

func (l *loop) Merge(b Buf) error {
	return l.meet(b, func(bufs []Buf) {
		sum := make([]int32, b.Len)
		for _, x := range bufs {
			for i, w := range tokens(x) {
				sum[i] += w
			}
		}
		for _, x := range bufs {
			copy(tokens(x), sum)
		}
	})
}

// Broadcast is done when start has been run, as Reduce.
func (l *loop) Broadcast(dst, src Buf, from int) (start, wait Kernel, err error) {
	if src.Missing() == (l.rank == from) {
		return nil, nil, fmt.Errorf("rank %d: a source of %d elements, from rank %d", l.rank, src.Len, from)
	}
	done := false
	start = func() error {
		done = true
		if l.rank == from {
			copy(tokens(dst), tokens(src))
		}
		return l.meet(dst, func(bufs []Buf) {
			for r, x := range bufs {
				if r != from {
					copy(tokens(x), tokens(bufs[from]))
				}
			}
		})
	}
	return start, l.ended(&done), nil
}

// ended is a wait for what must have been begun.
func (*loop) ended(done *bool) Kernel {
	return func() error {
		if !*done {
			return errors.New("waited for what nobody began")
		}
		*done = false
		return nil
	}
}
