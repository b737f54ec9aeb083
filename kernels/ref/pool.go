package ref

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// A ranger is a kernel, or one phase of it, that can work on a range of its units alone.
type ranger interface {
	span(w *worker, lo, hi int)
}

// A worker is one core of the pool with its scratch memory, which every kernel reuses.
type worker struct {
	wake    chan struct{}
	scratch []float32
}

// floats returns n words of scratch with unknown content, valid until the end of the span.
func (w *worker) floats(n int) []float32 {
	if cap(w.scratch) < n {
		w.scratch = aligned(n)
	}
	return w.scratch[:n]
}

// pool spreads ranges over GOMAXPROCS workers, of which the caller is the first.
type pool struct {
	mu      sync.Mutex // one kernel at a time
	shared  []float32  // scratch between the phases of a kernel
	workers []*worker
	done    sync.WaitGroup

	job   ranger
	n     int
	grain int
	next  atomic.Int64
}

var cores pool

func (p *pool) start() {
	for i := range runtime.GOMAXPROCS(0) {
		w := &worker{wake: make(chan struct{}, 1)}
		p.workers = append(p.workers, w)
		if i > 0 {
			go func() {
				for range w.wake {
					p.work(w)
					p.done.Done()
				}
			}()
		}
	}
}

// work takes ranges until none is left.
func (p *pool) work(w *worker) {
	for {
		lo := int(p.next.Add(1)-1) * p.grain
		if lo >= p.n {
			return
		}
		p.job.span(w, lo, min(lo+p.grain, p.n))
	}
}

// lock takes the pool for all phases of one kernel, with n words of scratch that its phases share.
func (p *pool) lock(n int) []float32 {
	p.mu.Lock()
	if p.workers == nil {
		p.start()
	}
	if cap(p.shared) < n {
		p.shared = aligned(n)
	}
	return p.shared[:n]
}

func (p *pool) unlock() { p.mu.Unlock() }

// run cuts n units into ranges of grain and spreads them over the cores.
func (p *pool) run(job ranger, n, grain int) {
	if n <= grain {
		if n > 0 {
			job.span(p.workers[0], 0, n)
		}
		return
	}
	p.job, p.n, p.grain = job, n, grain
	p.next.Store(0)
	helpers := min(len(p.workers), (n+grain-1)/grain) - 1
	p.done.Add(helpers)
	for _, w := range p.workers[1 : 1+helpers] {
		w.wake <- struct{}{}
	}
	p.work(p.workers[0])
	p.done.Wait()
	p.job = nil
}

// parallel runs a kernel of one phase. It must not be called from within a span.
func parallel(job ranger, n, grain int) {
	cores.lock(0)
	defer cores.unlock()
	cores.run(job, n, grain)
}
