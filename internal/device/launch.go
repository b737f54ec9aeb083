//go:build gpu

package device

// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"

	"gorgonia.org/cu"
)

// A Grid is the shape of a launch. Y and Z of 0 mean 1.
type Grid struct {
	X, Y, Z int
	Block   int  // threads
	Shared  int  // bytes of dynamic shared memory
	Cluster int  // blocks along X in a cluster, 0 for none
	Overlap bool // programmatic dependent launch, where the device has it: the kernel waits by griddepcontrol
}

type module struct {
	name string
	mod  cu.Module
}

type function struct {
	fn     cu.Function
	asked  bool
	args   int // bytes of its argument struct, 0 when the driver cannot say
	shared int // the dynamic shared memory that it may use
	roomy  bool
}

// Load adds the kernels of a compiled image (fatbin, cubin or PTX).
func (d *Device) Load(name string, image []byte) error {
	if err := d.enter(); err != nil {
		return fmt.Errorf("device: %w", err)
	}
	defer d.leave()
	mod, err := cu.LoadData(unsafe.String(unsafe.SliceData(image), len(image)))
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.modules = append(d.modules, module{name, mod})
		d.index(mod)
		return nil
	}
	switch code(err) {
	case C.CUDA_ERROR_NO_BINARY_FOR_GPU:
		return fmt.Errorf("device: kernels %s hold nothing for %s (sm_%d)", name, d.Name, d.Compute)
	case C.CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
		return fmt.Errorf("device: kernels %s on %s (sm_%d) need a newer driver than CUDA %s", name, d.Name,
			d.Compute, release(d.Driver))
	}
	return fmt.Errorf("device: loading kernels %s on %s (sm_%d): %w", name, d.Name, d.Compute, err)
}

// index remembers all kernels of a module. A driver older than 12.4 cannot list them: function asks for each by name.
func (d *Device) index(mod cu.Module) {
	var all [1024]C.CUfunction
	n := C.uint(len(all))
	if C.module_functions(d.c(), C.CUmodule(handle(&mod)), &all[0], &n) != C.CUDA_SUCCESS {
		return
	}
	for _, fn := range all[:min(int(n), len(all))] {
		var name *C.char
		if C.function_name(fn, &name) == C.CUDA_SUCCESS {
			f := &function{}
			*(*C.CUfunction)(unsafe.Pointer(&f.fn)) = fn
			d.funcs[C.GoString(name)] = f
		}
	}
}

// function finds a kernel in the loaded images and remembers it.
func (d *Device) function(name string) (*function, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.funcs[name]; f != nil {
		if !f.asked {
			d.askArgs(f)
		}
		return f, nil
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	for _, m := range d.modules {
		fn, err := m.mod.Function(name)
		if err == cu.NotFound {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("in %s: %w", m.name, err)
		}
		f := &function{fn: fn}
		d.askArgs(f)
		d.funcs[name] = f
		return f, nil
	}
	return nil, fmt.Errorf("no image of %d holds this kernel for sm_%d", len(d.modules), d.Compute)
}

// askArgs finds the size of a kernel's argument struct, at its first launch: the driver loads the kernel for it.
func (d *Device) askArgs(f *function) {
	f.asked = true
	var size C.size_t
	if C.argument_size(d.c(), f.c(), &size) == C.CUDA_SUCCESS {
		f.args = int(size)
	}
}

func (f *function) c() C.CUfunction { return C.CUfunction(handle(&f.fn)) }

// allow raises the function's limit of dynamic shared memory to what the launch needs: without it, 48 KiB together with
// what the kernel declares.
func (d *Device) allow(f *function, shared int) error {
	if shared <= f.shared {
		return nil
	}
	if shared > d.MaxShare {
		return fmt.Errorf("%d bytes of shared memory, %s has %d a block", shared, d.Name, d.MaxShare)
	}
	if err := check(C.set_shared(d.c(), f.c(), C.int(shared))); err != nil {
		return err
	}
	f.shared = shared
	return nil
}

// share lets a function's blocks stand on a multiprocessor beside those of another. Without it the driver cuts L1 and
// shared memory to the function's own needs, and a kernel whose cut is another one waits until the multiprocessor is
// empty.
func (d *Device) share(f *function) error {
	if f.roomy {
		return nil
	}
	f.roomy = true
	return check(C.set_room(d.c(), f.c()))
}

// Launch runs a kernel whose one parameter is a struct of *args's layout (`const __grid_constant__ Args a`): Ptr for
// each pointer. It copies *args, and allocates nothing.
func Launch[T any](s *Stream, kernel string, g Grid, args *T) {
	if s.err != nil || s.dry {
		return
	}
	if err := s.launch(kernel, g, unsafe.Pointer(args), int(unsafe.Sizeof(*args))); err != nil {
		s.err = fmt.Errorf("device: kernel %s, grid %+v, arguments %+v: %w", kernel, g, *args, err)
	}
}

func (s *Stream) launch(kernel string, g Grid, args unsafe.Pointer, size int) error {
	f, err := s.dev.function(kernel)
	if err != nil {
		return err
	}
	if f.args != 0 && f.args != size {
		return fmt.Errorf("an argument struct of %d bytes, the kernel takes %d", size, f.args)
	}
	if err := s.dev.allow(f, g.Shared); err != nil {
		return err
	}
	config := C.launch_config{
		context: s.dev.c(), stream: s.c(), function: f.c(),
		grid:  [3]C.uint{C.uint(g.X), C.uint(max(g.Y, 1)), C.uint(max(g.Z, 1))},
		block: C.uint(g.Block), shared: C.uint(g.Shared), cluster: C.uint(g.Cluster),
	}
	if g.Overlap && s.dev.Compute == 90 { // code for other devices has no griddepcontrol
		if err := s.dev.share(f); err != nil {
			return err
		}
		config.overlap = 1
	}
	if s.dev.profile != nil && !s.capturing {
		return s.dev.profile.time(s, kernel, func() error { return check(C.launch(&config, args)) })
	}
	return check(C.launch(&config, args))
}
