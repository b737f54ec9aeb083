//go:build gpu

package graph

import (
	"errors"

	"headroom/internal/device"
)

// cudaFeed copies on a stream of its own, from pinned memory. Steps take turns between two buffers: when a step's
// tokens are put, the step before the one that runs has been waited for, and its buffer is free.
type cudaFeed struct {
	c      *CUDA
	beside *device.Stream
	ready  *device.Event
	host   [2]*device.Pinned[int32]
	staged [2]device.Buffer
	turn   int
}

// Feed makes room for n tokens of two steps.
func (c *CUDA) Feed(n int) (Feed, error) {
	f := &cudaFeed{c: c}
	var errs [4]error
	f.beside, errs[0] = c.dev.NewStream()
	f.ready, errs[1] = c.dev.NewEvent()
	for i := range f.host {
		var err error
		f.host[i], err = device.NewPinned[int32](c.dev, n)
		errs[2] = errors.Join(errs[2], err)
		f.staged[i], err = c.dev.Alloc(device.I32, n)
		errs[3] = errors.Join(errs[3], err)
	}
	return f, errors.Join(errs[:]...)
}

func (f *cudaFeed) Put(tokens []int32) error {
	f.turn ^= 1
	copy(f.host[f.turn].Data, tokens)
	device.Upload(f.beside, f.staged[f.turn], f.host[f.turn].Data)
	f.beside.Record(f.ready)
	return f.beside.Err()
}

func (f *cudaFeed) Take(dst Buf, at int) error {
	f.c.stream.Wait(f.ready)
	f.c.stream.Copy(on(dst), f.staged[f.turn].Slice(at, at+dst.Len))
	return f.c.stream.Err()
}

func (f *cudaFeed) Close() error {
	err := errors.Join(f.c.stream.Sync(), f.beside.Close(), f.ready.Close())
	for i := range f.host {
		err = errors.Join(err, f.host[i].Close(), f.c.dev.Free(f.staged[i]))
	}
	return err
}
