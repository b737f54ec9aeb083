// Package graphtest is what tests of training on several ranks share.
package graphtest

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"headroom/internal/graph"
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
	bufs  []graph.Buf
	count int
	round int
}

// Loopback makes a group of ranks in one process: each has a CPU backend and a goroutine of its own.
func Loopback(size int) []graph.Group {
	m := &meeting{size: size, bufs: make([]graph.Buf, size)}
	m.all = sync.NewCond(&m.mu)
	groups := make([]graph.Group, size)
	for rank := range groups {
		groups[rank] = &loop{m, rank}
	}
	return groups
}

// meet has the last who comes do the work over everybody's buffer.
func (l *loop) meet(b graph.Buf, work func(bufs []graph.Buf) error) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bufs[l.rank] = b
	round := l.round
	if l.count++; l.count == l.size {
		err = work(l.bufs)
		l.count = 0
		l.round++
		l.all.Broadcast()
	}
	for l.round == round {
		l.all.Wait()
	}
	return err
}

// cpu reads and writes the buffers of all ranks, which lie in one memory.
var cpu = graph.NewCPU()

func floats(b graph.Buf) []float32 {
	x := make([]float32, b.Len)
	if err := cpu.Download(x, b); err != nil {
		panic(err)
	}
	return x
}

// give brings words to every buffer.
func give(bufs []graph.Buf, words []float32) error {
	for _, b := range bufs {
		if err := cpu.Upload(b, words); err != nil {
			return err
		}
	}
	return nil
}

func (l *loop) Rank() int  { return l.rank }
func (l *loop) Size() int  { return l.size }
func (l *loop) Abort()     {}
func (*loop) Close() error { return nil }

// Reduce is done when start has been run; wait says whether there was one.
func (l *loop) Reduce(b graph.Buf, to int) (start, wait graph.Kernel, err error) {
	done := false
	start = func() error {
		done = true
		return l.meet(b, func(bufs []graph.Buf) error {
			sum := floats(bufs[to])
			for r, x := range bufs {
				if r != to {
					for i, x := range floats(x) {
						sum[i] += x
					}
				}
			}
			return cpu.Upload(bufs[to], sum)
		})
	}
	return start, l.ended(&done), nil
}

func (l *loop) Gather(b graph.Buf) error {
	return l.meet(b, func(bufs []graph.Buf) error {
		var whole []float32
		part := b.Len / l.size
		for r, x := range bufs {
			whole = append(whole, floats(x)[r*part:(r+1)*part]...)
		}
		return give(bufs, whole)
	})
}

func (l *loop) Merge(b graph.Buf) error {
	return l.meet(b, func(bufs []graph.Buf) error {
		sum := make([]float32, b.Len) // of words, whatever they are
		for _, x := range bufs {
			for i, w := range floats(x) {
				sum[i] = math.Float32frombits(math.Float32bits(sum[i]) + math.Float32bits(w))
			}
		}
		return give(bufs, sum)
	})
}

// Broadcast is done when start has been run, as Reduce.
func (l *loop) Broadcast(dst, src graph.Buf, from int) (start, wait graph.Kernel, err error) {
	if src.Missing() == (l.rank == from) {
		return nil, nil, fmt.Errorf("rank %d: a source of %d elements, from rank %d", l.rank, src.Len, from)
	}
	done := false
	start = func() error {
		done = true
		if l.rank == from {
			if err := cpu.Upload(dst, floats(src)); err != nil {
				return err
			}
		}
		return l.meet(dst, func(bufs []graph.Buf) error { return give(bufs, floats(bufs[from])) })
	}
	return start, l.ended(&done), nil
}

// ended is a wait for what must have been begun.
func (*loop) ended(done *bool) graph.Kernel {
	return func() error {
		if !*done {
			return errors.New("a collective was waited for that no rank has started")
		}
		*done = false
		return nil
	}
}
