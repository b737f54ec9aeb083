//go:build gpu

package kernels

import (
	"embed"
	"fmt"

	"headroom/internal/device"
)

//go:embed image/*.fatbin
var images embed.FS

// Open returns the device of that ordinal with all kernels loaded.
func Open(ordinal int) (*device.Device, error) {
	d, err := device.Open(ordinal)
	if err != nil {
		return nil, err
	}
	files, err := images.ReadDir("image")
	if err != nil {
		return nil, fmt.Errorf("kernels: %w", err)
	}
	for _, f := range files {
		image, err := images.ReadFile("image/" + f.Name())
		if err != nil {
			return nil, fmt.Errorf("kernels: %w", err)
		}
		if err := d.Load(f.Name(), image); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// names are the forms of a kernel: one that moves 16 bytes at a time and one for any size and address, for each type.
type names [2][2]string

func forms(name string) names {
	return names{both(name), both(name + "_any")}
}

func both(name string) [2]string {
	return [2]string{device.F32: name + "_f32", device.BF16: name + "_bf16"}
}

// of is the form for rows of n elements in these buffers.
func (f *names) of(t device.Type, n int, bufs ...device.Buffer) string {
	return f[anyForm(t, n, bufs...)][t]
}

// anyForm is 0 where n elements and all addresses are multiples of 16 bytes, else 1.
func anyForm(t device.Type, n int, bufs ...device.Buffer) int {
	at := device.Ptr(n * t.Size())
	for _, b := range bufs {
		at |= b.Ptr
	}
	if at%16 == 0 {
		return 0
	}
	return 1
}

// pack is how many elements of a type a thread moves at a time: 16 bytes.
func pack(t device.Type) int { return 16 / t.Size() }

// flag is a bool as kernels take it.
func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// A want describes the buffer that a kernel requires.
type want struct {
	name string
	buf  device.Buffer
	n    int
	t    device.Type
}

// fits is an error for buffers that are too short or of the wrong type.
func fits(s *device.Stream, kernel string, wants ...want) bool {
	for _, w := range wants {
		if w.buf.N < w.n || w.buf.Type != w.t {
			s.Fail(fmt.Errorf("kernels: %s: %s must be %d of %v, it is %d of %v", kernel, w.name, w.n, w.t, w.buf.N, w.buf.Type))
			return false
		}
	}
	return true
}
