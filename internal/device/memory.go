//go:build gpu

package device

// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"

	"gorgonia.org/cu"
)

// align is the alignment of every buffer taken from an arena: a product's operands want it.
const align = 256

// Number is an element of host memory that can be copied to a device.
type Number interface {
	~float32 | ~float64 | ~int32 | ~uint32 | ~int64 | ~uint64 | ~uint16 | ~uint8 | ~int8
}

// Alloc takes n elements of device memory.
func (d *Device) Alloc(t Type, n int) (Buffer, error) {
	if err := d.enter(); err != nil {
		return Buffer{}, fmt.Errorf("device: allocate: %w", err)
	}
	defer d.leave()
	ptr, err := cu.MemAlloc(int64(max(n*t.Size(), 1)))
	if err == cu.OutOfMemory {
		free, _, _ := cu.MemInfo()
		return Buffer{}, fmt.Errorf("device: out of memory: %s asked for, %s of %s free on %s",
			gib(n*t.Size()), gib(int(free)), gib(d.Memory), d.Name)
	}
	if err != nil {
		return Buffer{}, fmt.Errorf("device: allocate %d bytes: %w", n*t.Size(), err)
	}
	return Buffer{Ptr: Ptr(ptr), N: n, Type: t}, nil
}

// Free frees memory that Alloc took.
func (d *Device) Free(b Buffer) error {
	if err := d.enter(); err != nil {
		return fmt.Errorf("device: free: %w", err)
	}
	defer d.leave()
	if err := cu.MemFree(cu.DevicePtr(b.Ptr)); err != nil {
		return fmt.Errorf("device: free: %w", err)
	}
	return nil
}

// FreeMemory is how many bytes are free on the device.
func (d *Device) FreeMemory() (int, error) {
	if err := d.enter(); err != nil {
		return 0, fmt.Errorf("device: %w", err)
	}
	defer d.leave()
	free, _, err := cu.MemInfo()
	return int(free), err
}

func gib(bytes int) string { return fmt.Sprintf("%.2f GiB", float64(bytes)/(1<<30)) }

// An Arena is one allocation from which buffers are taken in order and given back together.
type Arena struct {
	dev  *Device
	all  Buffer
	used int
}

// NewArena allocates bytes.
func (d *Device) NewArena(bytes int) (*Arena, error) {
	all, err := d.Alloc(U8, bytes)
	if err != nil {
		return nil, err
	}
	return &Arena{dev: d, all: all}, nil
}

// Take is the next n elements. It panics when the arena is too small: its size was planned.
func (a *Arena) Take(t Type, n int) Buffer {
	b := a.View(a.used, t, n)
	a.used += (b.Bytes() + align - 1) / align * align
	return b
}

// View is n elements from an offset in bytes.
func (a *Arena) View(offset int, t Type, n int) Buffer {
	if offset < 0 || offset+n*t.Size() > a.all.N {
		panic(fmt.Sprintf("device: %d %v at %d in an arena of %d bytes", n, t, offset, a.all.N))
	}
	return Buffer{Ptr: a.all.Ptr + Ptr(offset), N: n, Type: t}
}

// Reset frees all buffers of the arena at once.
func (a *Arena) Reset() { a.used = 0 }

// Bytes is the arena's size.
func (a *Arena) Bytes() int { return a.all.N }

// Close frees the arena.
func (a *Arena) Close() error { return a.dev.Free(a.all) }

// Scratch is memory for one kernel, or for a few in a row on this stream: the next call gives the same again. It is nil
// when there is no memory, and the stream then has the error. Captured graphs keep what they were given.
func (s *Stream) Scratch(bytes int) *Arena {
	if s.err != nil {
		return nil
	}
	if s.dry {
		return &Arena{dev: s.dev, all: Buffer{Ptr: align, N: bytes, Type: U8}}
	}
	if s.scratch == nil || s.scratch.Bytes() < bytes {
		a, err := s.dev.NewArena(bytes)
		if err != nil {
			s.err = err
			return nil
		}
		s.scratch = a
		s.arenas = append(s.arenas, a)
	}
	s.scratch.Reset()
	return s.scratch
}

// Pinned is host memory that copies asynchronously.
type Pinned[T Number] struct {
	Data []T
	dev  *Device
}

// NewPinned allocates n elements.
func NewPinned[T Number](d *Device, n int) (*Pinned[T], error) {
	var zero T
	var p unsafe.Pointer
	if err := check(C.host_alloc(d.c(), C.size_t(max(n, 1)*int(unsafe.Sizeof(zero))), &p)); err != nil {
		return nil, fmt.Errorf("device: %d bytes of pinned host memory: %w", n*int(unsafe.Sizeof(zero)), err)
	}
	return &Pinned[T]{Data: unsafe.Slice((*T)(p), n), dev: d}, nil
}

// Close frees the memory.
func (p *Pinned[T]) Close() error {
	return check(C.host_free(p.dev.c(), unsafe.Pointer(unsafe.SliceData(p.Data))))
}

// Upload copies src to the front of dst. From pinned memory it returns at once, and src must keep its values until the
// stream has passed; from other memory it returns when src may change.
func Upload[T Number](s *Stream, dst Buffer, src []T) {
	bytes := len(src) * int(unsafe.Sizeof(*new(T)))
	if bytes > dst.Bytes() {
		s.Fail(fmt.Errorf("device: upload of %d bytes into %d", bytes, dst.Bytes()))
	}
	if bytes > 0 {
		s.do("upload", func() error {
			return cu.MemcpyHtoDAsync(cu.DevicePtr(dst.Ptr), unsafe.Pointer(&src[0]), int64(bytes), s.stream)
		})
	}
}

// Download copies the front of src to dst. Into pinned memory it returns at once, into other memory when dst is there.
func Download[T Number](s *Stream, dst []T, src Buffer) {
	bytes := len(dst) * int(unsafe.Sizeof(*new(T)))
	if bytes > src.Bytes() {
		s.Fail(fmt.Errorf("device: download of %d bytes from %d", bytes, src.Bytes()))
	}
	if bytes > 0 {
		s.do("download", func() error {
			return cu.MemcpyDtoHAsync(unsafe.Pointer(&dst[0]), cu.DevicePtr(src.Ptr), int64(bytes), s.stream)
		})
	}
}

// Copy copies src to the front of dst.
func (s *Stream) Copy(dst, src Buffer) {
	if src.Bytes() > dst.Bytes() {
		s.Fail(fmt.Errorf("device: copy of %d bytes into %d", src.Bytes(), dst.Bytes()))
	}
	s.do("copy", func() error {
		return cu.MemcpyDtoDAsync(cu.DevicePtr(dst.Ptr), cu.DevicePtr(src.Ptr), int64(src.Bytes()), s.stream)
	})
}

// Fill sets every byte of b.
func (s *Stream) Fill(b Buffer, value byte) {
	s.do("fill", func() error { return cu.MemsetD8Async(cu.DevicePtr(b.Ptr), value, int64(b.Bytes()), s.stream) })
}
