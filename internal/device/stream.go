//go:build gpu

package device

// #include "shim.h"
import "C"

import (
	"fmt"
	"time"

	"gorgonia.org/cu"
)

// A Stream is a queue of work on its device. It keeps its first error: what comes after is not started.
type Stream struct {
	dev       *Device
	stream    cu.Stream
	err       error
	capturing bool
	dry       bool
	workspace Buffer // cuBLASLt's, made at the first product
	scratch   *Arena
	arenas    []*Arena // every scratch so far: captured graphs hold their addresses
}

// An Event marks a point in a stream.
type Event struct {
	dev   *Device
	event cu.Event
}

// NewStream makes a queue that does not wait for any other.
func (d *Device) NewStream() (*Stream, error) {
	if err := d.enter(); err != nil {
		return nil, fmt.Errorf("device: new stream: %w", err)
	}
	defer d.leave()
	stream, err := cu.MakeStream(cu.NonBlocking)
	if err != nil {
		return nil, fmt.Errorf("device: new stream: %w", err)
	}
	return &Stream{dev: d, stream: stream}, nil
}

// Dry is a stream of a device that need not exist: work is checked as on any stream, and then dropped.
func Dry(d *Device) *Stream { return &Stream{dev: d, dry: true} }

// Device is the stream's device.
func (s *Stream) Device() *Device { return s.dev }

func (s *Stream) c() C.CUstream { return C.CUstream(handle(&s.stream)) }

// Fail records an error as if a launch had met it.
func (s *Stream) Fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// Err is the first error so far, without waiting.
func (s *Stream) Err() error { return s.err }

// Sync waits until the stream is empty and returns its first error, which it then forgets.
func (s *Stream) Sync() error {
	s.do("synchronize", s.stream.Synchronize)
	err := s.err
	s.err = nil
	return err
}

// Close waits for the stream and frees it.
func (s *Stream) Close() error {
	err := s.Sync()
	if !s.workspace.Nil() {
		s.dev.Free(s.workspace)
	}
	for _, a := range s.arenas {
		a.Close()
	}
	s.do("close stream", s.stream.Destroy)
	if err == nil {
		err = s.err
	}
	return err
}

// do makes one of cu's calls in the stream's context.
func (s *Stream) do(what string, call func() error) {
	if s.err != nil || s.dry {
		return
	}
	err := s.dev.enter()
	if err == nil {
		err = call()
		s.dev.leave()
	}
	if err != nil {
		s.err = fmt.Errorf("device: %s: %w", what, err)
	}
}

// NewEvent makes an event that takes the time.
func (d *Device) NewEvent() (*Event, error) {
	if err := d.enter(); err != nil {
		return nil, fmt.Errorf("device: new event: %w", err)
	}
	defer d.leave()
	event, err := cu.MakeEvent(cu.DefaultEvent)
	if err != nil {
		return nil, fmt.Errorf("device: new event: %w", err)
	}
	return &Event{d, event}, nil
}

// Record marks this point of the stream.
func (s *Stream) Record(e *Event) {
	s.do("record event", func() error { return e.event.Record(s.stream) })
}

// Wait lets the stream's next work start when the event has been reached.
func (s *Stream) Wait(e *Event) {
	s.do("wait for event", func() error { return s.stream.Wait(e.event, 0) })
}

// Sync waits until the event has been reached.
func (e *Event) Sync() error {
	if err := e.dev.enter(); err != nil {
		return fmt.Errorf("device: event: %w", err)
	}
	defer e.dev.leave()
	if err := e.event.Synchronize(); err != nil {
		return fmt.Errorf("device: event: %w", err)
	}
	return nil
}

// Since waits until both events have been reached and returns the time from start to e.
func (e *Event) Since(start *Event) (time.Duration, error) {
	if err := e.dev.enter(); err != nil {
		return 0, fmt.Errorf("device: event: %w", err)
	}
	defer e.dev.leave()
	if err := e.event.Synchronize(); err != nil {
		return 0, fmt.Errorf("device: event: %w", err)
	}
	ms, err := start.event.Elapsed(e.event)
	if err != nil {
		return 0, fmt.Errorf("device: elapsed time: %w", err)
	}
	return time.Duration(ms * float64(time.Millisecond)), nil
}

// Close frees the event.
func (e *Event) Close() error {
	if err := e.dev.enter(); err != nil {
		return fmt.Errorf("device: event: %w", err)
	}
	defer e.dev.leave()
	return cu.DestroyEvent(&e.event)
}
