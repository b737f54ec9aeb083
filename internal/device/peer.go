//go:build gpu

package device

// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// Reach lets kernels of d read and write the memory of another device of this process, by its own addresses, and says
// whether the two are linked so that they can.
func (d *Device) Reach(other *Device) (bool, error) {
	if d == other {
		return true, nil
	}
	var can C.int
	if err := check(C.reach(d.c(), C.CUdevice(d.ordinal), other.c(), C.CUdevice(other.ordinal), &can)); err != nil {
		return false, fmt.Errorf("device: memory of %s for %s: %w", other.Name, d.Name, err)
	}
	return can != 0, nil
}

// Ptr is where kernels find the memory.
func (p *Pinned[T]) Ptr() Ptr { return Ptr(unsafe.Pointer(unsafe.SliceData(p.Data))) }
