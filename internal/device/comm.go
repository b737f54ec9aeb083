//go:build gpu

package device

// #include "nccl.h"
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"
)

// A Comm is one rank of a communicator of NCCL: one GPU of each process. Its calls go onto a stream, in the same order
// on every rank.
type Comm struct {
	Rank, Size int

	dev  *Device
	mu   sync.Mutex // of comm against Abort
	comm C.nccl_comm
	gone bool
}

const joinSeconds = 60

func openNCCL() error {
	if wrong := C.nccl_open(); wrong != nil {
		return errors.New("device: " + C.GoString(wrong))
	}
	return nil
}

// NewCommID makes the id that the ranks of one communicator must share.
func NewCommID() ([]byte, error) {
	if err := openNCCL(); err != nil {
		return nil, err
	}
	var id C.nccl_id
	if r := C.nccl_new_id(&id); r != 0 {
		return nil, fmt.Errorf("device: NCCL makes no id: %s", C.GoString(C.nccl_error(r, nil)))
	}
	return C.GoBytes(unsafe.Pointer(&id), C.int(unsafe.Sizeof(id))), nil
}

// Join waits for all ranks of the communicator of that id. Calls of a patient one return when they have been started,
// however long that takes; those of others give up, but NCCL starts a thread for each.
func (d *Device) Join(id []byte, rank, size int, patient bool) (*Comm, error) {
	if err := openNCCL(); err != nil {
		return nil, err
	}
	var unique C.nccl_id
	if len(id) != int(unsafe.Sizeof(unique)) {
		return nil, fmt.Errorf("device: an id of NCCL has %d bytes, not %d", unsafe.Sizeof(unique), len(id))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&unique)), len(id)), id)
	c := &Comm{Rank: rank, Size: size, dev: d}
	blocking := C.int(0)
	if patient {
		blocking = 1
	}
	if r := C.nccl_join(d.c(), &c.comm, &unique, C.int(rank), C.int(size), joinSeconds, blocking); r != 0 {
		return nil, fmt.Errorf("device: NCCL: rank %d of %d: %s", rank, size, C.GoString(C.nccl_error(r, c.comm)))
	}
	return c, nil
}

// call makes one of NCCL's calls on a stream.
func (c *Comm) call(s *Stream, what string, b Buffer, call func(C.CUdeviceptr) C.int) {
	if s.err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		s.err = fmt.Errorf("device: NCCL: %s: the communicator was aborted", what)
		return
	}
	if r := call(C.CUdeviceptr(b.Ptr)); r != 0 {
		s.err = fmt.Errorf("device: NCCL: %s of %d of %v: %s", what, b.N, b.Type, C.GoString(C.nccl_error(r, c.comm)))
	}
}

// part is one rank's part of a buffer.
func (c *Comm) part(s *Stream, what string, b Buffer) int {
	if b.N%c.Size != 0 {
		s.Fail(fmt.Errorf("device: NCCL: %s of %d elements over %d ranks: they must divide evenly", what, b.N, c.Size))
	}
	return b.N / c.Size
}

// Reduce adds float32 over the ranks, into the buffer of rank to. The others' are left as they were.
func (c *Comm) Reduce(s *Stream, b Buffer, to int) {
	if b.Type != F32 {
		s.Fail(fmt.Errorf("device: NCCL: reduce is for f32, not %v", b.Type))
	}
	c.call(s, "reduce", b, func(p C.CUdeviceptr) C.int {
		return C.nccl_reduce(c.dev.c(), c.comm, p, C.size_t(b.N), C.int(to), s.c())
	})
}

// Broadcast copies src of rank from, which only that rank reads, to dst of every rank.
func (c *Comm) Broadcast(s *Stream, dst, src Buffer, from int) {
	if c.Rank == from && (src.N != dst.N || src.Type != dst.Type) {
		s.Fail(fmt.Errorf("device: NCCL: broadcast of %d of %v to %d of %v", src.N, src.Type, dst.N, dst.Type))
	}
	c.call(s, "broadcast", dst, func(p C.CUdeviceptr) C.int {
		return C.nccl_broadcast(c.dev.c(), c.comm, p, C.CUdeviceptr(src.Ptr), C.size_t(dst.Bytes()), C.int(from), s.c())
	})
}

// AllGather gives every rank the r-th part of rank r.
func (c *Comm) AllGather(s *Stream, b Buffer) {
	part := c.part(s, "all-gather", b) * b.Bytes() / max(b.N, 1)
	c.call(s, "all-gather", b, func(p C.CUdeviceptr) C.int {
		return C.nccl_all_gather(c.dev.c(), c.comm, p, C.size_t(part), C.int(c.Rank), s.c())
	})
}

// Merge adds the ranks' words as integers: where all ranks but one hold zeros, all get that one's bits.
func (c *Comm) Merge(s *Stream, b Buffer) {
	c.call(s, "sum", b, func(p C.CUdeviceptr) C.int {
		return C.nccl_sum(c.dev.c(), c.comm, p, C.size_t(b.Bytes()/4), 0, s.c())
	})
}

// Sum adds up the ranks' float32 or bf16, in place: all get the same bits.
func (c *Comm) Sum(s *Stream, b Buffer) {
	if b.Type != F32 && b.Type != BF16 {
		s.Fail(fmt.Errorf("device: NCCL: a sum is of f32 or bf16, not %v", b.Type))
	}
	c.call(s, "sum", b, func(p C.CUdeviceptr) C.int {
		return C.nccl_sum(c.dev.c(), c.comm, p, C.size_t(b.N), C.int(b.Type.Size()), s.c())
	})
}

// Abort ends the collectives that run on this rank, which would wait for a lost peer for ever. It may be called from
// any goroutine.
func (c *Comm) Abort() error {
	return c.end("abort", func() C.int { return C.nccl_abort(c.comm) })
}

// Close leaves the communicator. Graphs that recorded its calls must be closed before: NCCL waits for their end.
func (c *Comm) Close() error {
	return c.end("close", func() C.int { return C.nccl_close(c.comm) })
}

// leaveTime is how long NCCL may take to end a communicator.
const leaveTime = 30 * time.Second

func (c *Comm) end(what string, end func() C.int) error {
	c.mu.Lock()
	gone := c.gone
	c.gone = true
	c.mu.Unlock()
	if gone {
		return nil
	}
	return within(leaveTime, "NCCL: "+what, func() error {
		if r := end(); r != 0 {
			return fmt.Errorf("device: NCCL: %s: %s", what, C.GoString(C.nccl_error(r, nil)))
		}
		return nil
	})
}
