//go:build gpu

package device

// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
)

// A Graph is work recorded once and launched as a whole.
type Graph struct {
	dev  *Device
	exec C.CUgraphExec
}

// Capture records what record puts on the stream, without running it. The addresses and arguments of then are those of
// every launch.
func (s *Stream) Capture(record func()) (*Graph, error) {
	if s.err != nil {
		return nil, s.Sync()
	}
	if s.capturing {
		return nil, errors.New("device: the stream is being captured already")
	}
	if err := check(C.capture_begin(s.dev.c(), s.c())); err != nil {
		return nil, fmt.Errorf("device: begin capture: %w", err)
	}
	s.capturing = true
	record()
	s.capturing = false
	g := &Graph{dev: s.dev}
	err := check(C.capture_end(s.dev.c(), s.c(), &g.exec))
	if first := s.err; first != nil {
		s.err = nil
		return nil, fmt.Errorf("device: capture: %w", first)
	}
	if err != nil {
		return nil, fmt.Errorf("device: end capture: %w", err)
	}
	return g, nil
}

// Launch runs the graph on the stream.
func (g *Graph) Launch(s *Stream) {
	if s.err != nil {
		return
	}
	if err := check(C.graph_launch(s.dev.c(), s.c(), g.exec)); err != nil {
		s.err = fmt.Errorf("device: launch graph: %w", err)
	}
}

// Close frees the graph.
func (g *Graph) Close() error { return check(C.graph_free(g.dev.c(), g.exec)) }
