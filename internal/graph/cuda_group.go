//go:build gpu

package graph

import (
	"errors"

	"headroom/internal/device"
)

// cudaGroup is a communicator of NCCL: on the backend's stream, or on one beside it.
type cudaGroup struct {
	stream, beside *device.Stream
	comm           *device.Comm
	events         []*device.Event
}

// Join waits for all ranks of the communicator of that id, which device.NewCommID made.
func (c *CUDA) Join(id []byte, rank, size int) (Group, error) {
	comm, err := c.dev.Join(id, rank, size, false)
	if err != nil {
		return nil, err
	}
	beside, err := c.dev.NewStream()
	if err != nil {
		return nil, errors.Join(err, comm.Close())
	}
	return &cudaGroup{stream: c.stream, beside: beside, comm: comm}, nil
}

func (g *cudaGroup) Rank() int { return g.comm.Rank }
func (g *cudaGroup) Size() int { return g.comm.Size }

func (g *cudaGroup) Gather(b Buf) error {
	g.comm.AllGather(g.stream, on(b))
	return g.stream.Err()
}

func (g *cudaGroup) Merge(b Buf) error {
	g.comm.Merge(g.stream, on(b))
	return g.stream.Err()
}

// Reduce prepares a sum on the stream beside.
func (g *cudaGroup) Reduce(b Buf, to int) (start, wait Kernel, err error) {
	return g.aside(func() { g.comm.Reduce(g.beside, on(b), to) })
}

// Broadcast prepares a copy to all ranks on the stream beside.
func (g *cudaGroup) Broadcast(dst, src Buf, from int) (start, wait Kernel, err error) {
	return g.aside(func() { g.comm.Broadcast(g.beside, on(dst), on(src), from) })
}

// aside has do's work begin, on the stream beside, when all that comes before start is done.
func (g *cudaGroup) aside(do func()) (start, wait Kernel, err error) {
	var ready, done *device.Event
	for _, e := range []**device.Event{&ready, &done} {
		if *e, err = g.stream.Device().NewEvent(); err != nil {
			return nil, nil, err
		}
		g.events = append(g.events, *e)
	}
	start = func() error {
		g.stream.Record(ready)
		g.beside.Wait(ready)
		do()
		g.beside.Record(done)
		return errors.Join(g.stream.Err(), g.beside.Err())
	}
	wait = func() error {
		g.stream.Wait(done)
		return g.stream.Err()
	}
	return start, wait, nil
}

// Abort ends the collectives that wait for a lost rank. It may be called from any goroutine.
func (g *cudaGroup) Abort() { g.comm.Abort() }

// Close leaves the communicator.
func (g *cudaGroup) Close() error {
	err := g.comm.Close()
	for _, e := range g.events {
		err = errors.Join(err, e.Close())
	}
	return errors.Join(err, g.beside.Close())
}
