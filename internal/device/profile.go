//go:build gpu

package device

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// A profile adds up the time of each kernel. It serves HEADROOM_CUDA_SYNC=1, where each launch is waited for.
type profile struct {
	mu      sync.Mutex
	entries map[string]*entry
}

type entry struct {
	name  string
	calls int
	total time.Duration
}

func newProfile() *profile { return &profile{entries: map[string]*entry{}} }

// time runs one launch between two events and waits for it.
func (p *profile) time(s *Stream, name string, launch func() error) error {
	start, err := s.dev.NewEvent()
	if err != nil {
		return err
	}
	defer start.Close()
	end, err := s.dev.NewEvent()
	if err != nil {
		return err
	}
	defer end.Close()
	s.Record(start)
	if err := launch(); err != nil {
		return err
	}
	s.Record(end)
	took, err := end.Since(start)
	if err != nil {
		return err
	}
	p.add(name, took)
	return nil
}

func (p *profile) add(name string, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[name]
	if e == nil {
		e = &entry{name: name}
		p.entries[name] = e
	}
	e.calls++
	e.total += took
}

// print writes the kernels by falling time.
func (p *profile) print(w io.Writer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var total time.Duration
	for _, e := range p.entries {
		total += e.total
	}
	fmt.Fprintf(w, "%-56s %8s %12s %10s %6s\n", "kernel", "calls", "total ms", "mean µs", "share")
	sorted := slices.SortedFunc(maps.Values(p.entries),
		func(a, b *entry) int { return cmp.Or(cmp.Compare(b.total, a.total), cmp.Compare(a.name, b.name)) })
	for _, e := range sorted {
		fmt.Fprintf(w, "%-56s %8d %12.3f %10.2f %5.1f%%\n", e.name, e.calls, e.total.Seconds()*1e3,
			e.total.Seconds()*1e6/float64(e.calls), 100*e.total.Seconds()/total.Seconds())
	}
}
