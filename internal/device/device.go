// Package device drives one NVIDIA GPU: memory, streams, events, kernels from embedded images, matrix products by
// cuBLASLt, and graphs. Contexts, memory, streams and events are gorgonia.org/cu's; what it lacks is the
// small cgo file shim.c. Nothing of CUDA is loaded before Open, so a binary with CUDA starts on any machine.
//
// Every method makes its context current on the thread that it runs on, so any goroutine may call any of them; one
// Stream belongs to one goroutine at a time. A Stream keeps its first error and ignores what follows it: launches
// return nothing, and Sync reports. An error names the call, the kernel and the shape.
//
// HEADROOM_CUDA_SYNC=1 waits after each launch, reports errors where they arise and prints a table of the time per
// kernel when the device closes.
package device

import (
	"errors"
	"math"
)

// ErrBuild is the error of a build without the tag gpu that is asked for a GPU.
var ErrBuild = errors.New("device: this build has no CUDA: make cuda")

// Type is how the elements of a buffer are stored.
type Type uint8

// The element types of kernels.
const (
	F32 Type = iota
	BF16
	I32
	F64
	U8
)

// Size is the bytes of one element.
func (t Type) Size() int { return [...]int{4, 2, 4, 8, 1}[t] }

func (t Type) String() string { return [...]string{"f32", "bf16", "i32", "f64", "u8"}[t] }

// Ptr is an address in device memory. Argument structs of kernels hold it as a pointer of 8 bytes.
type Ptr uintptr

// A Buffer is N elements of device memory. The zero Buffer is an absent one.
type Buffer struct {
	Ptr  Ptr
	N    int
	Type Type
}

// Nil says that there is no memory.
func (b Buffer) Nil() bool { return b.Ptr == 0 }

// Bytes is the size of the buffer.
func (b Buffer) Bytes() int { return b.N * b.Type.Size() }

// At is the address of element i.
func (b Buffer) At(i int) Ptr { return b.Ptr + Ptr(i*b.Type.Size()) }

// Slice is the view of the elements lo to hi.
func (b Buffer) Slice(lo, hi int) Buffer {
	if lo < 0 || lo > hi || hi > b.N {
		panic("device: slice out of range of its buffer")
	}
	return Buffer{Ptr: b.At(lo), N: hi - lo, Type: b.Type}
}

// ToBF16 rounds x to the nearest bfloat16, ties to even, and returns its bits.
func ToBF16(x float32) uint16 {
	u := math.Float32bits(x)
	if x != x {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// FromBF16 is the value of a bfloat16.
func FromBF16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }
