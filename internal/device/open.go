//go:build gpu

package device

/*
#cgo noescape launch
#cgo nocallback launch
#include "shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"sync"
	"unsafe"

	"gorgonia.org/cu"
)

const (
	oldestDriver  = 12000 // machine code of CUDA 12 runs on any driver of CUDA 12 or newer
	oldestCompute = 80
)

// A Device is one GPU with its primary context.
type Device struct {
	Name     string
	SMs      int
	Compute  int // the compute capability, 90 for Hopper
	Memory   int // bytes
	L2       int // bytes
	MaxShare int // bytes of shared memory that one block may ask for
	Driver   int // the CUDA version of the driver, 13000 for 13.0

	ordinal cu.Device
	context cu.CUContext
	modules []module
	mu      sync.Mutex
	funcs   map[string]*function
	blas    *blas
	choices map[string]int // of algorithms, by the names of plans
	profile *profile
}

// Count is the GPUs of this machine, 0 where there is no driver.
func Count() int {
	if C.cuda_load() == 0 || C.cuda_init() != C.CUDA_SUCCESS {
		return 0
	}
	n, err := cu.NumDevices()
	if err != nil {
		return 0
	}
	return n
}

// Open returns the device of that ordinal. Its error is one line with what was found and what is needed.
func Open(ordinal int) (*Device, error) {
	if C.cuda_load() == 0 {
		return nil, errors.New("device: no NVIDIA driver: libcuda.so.1 was not found")
	}
	if r := C.cuda_init(); r == C.CUDA_ERROR_NO_DEVICE {
		return nil, errors.New("device: the NVIDIA driver is there, but it finds no GPU")
	} else if r != C.CUDA_SUCCESS {
		return nil, fmt.Errorf("device: the NVIDIA driver does not start: %w", check(r))
	}
	driver := cu.Version()
	if driver < oldestDriver {
		return nil, fmt.Errorf("device: the NVIDIA driver supports CUDA %s: %s or newer is needed", release(driver),
			release(oldestDriver))
	}
	count, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("device: counting GPUs: %w", err)
	}
	if ordinal < 0 || ordinal >= count {
		return nil, fmt.Errorf("device: there is no GPU %d: this machine has %d", ordinal, count)
	}
	d := &Device{Driver: driver, funcs: map[string]*function{}}
	if err := d.init(ordinal); err != nil {
		return nil, fmt.Errorf("device: GPU %d: %w", ordinal, err)
	}
	if os.Getenv("HEADROOM_CUDA_SYNC") == "1" {
		d.profile = newProfile()
	}
	return d, nil
}

func (d *Device) init(ordinal int) (err error) {
	if d.ordinal, err = cu.GetDevice(ordinal); err != nil {
		return err
	}
	name, err := d.ordinal.Name()
	if err != nil {
		return err
	}
	d.Name = cString(name)
	var major, minor, memory int
	for _, a := range []struct {
		to *int
		of cu.DeviceAttribute
	}{
		{&d.SMs, cu.MultiprocessorCount}, {&major, cu.ComputeCapabilityMajor}, {&minor, cu.ComputeCapabilityMinor},
		{&d.L2, cu.L2CacheSize}, {&d.MaxShare, C.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN},
	} {
		if *a.to, err = d.ordinal.Attribute(a.of); err != nil {
			return err
		}
	}
	if d.Compute = major*10 + minor; d.Compute < oldestCompute {
		return fmt.Errorf("%s is sm_%d: the kernels need sm_%d or newer", d.Name, d.Compute, oldestCompute)
	}
	total, err := d.ordinal.TotalMem()
	if err != nil {
		return err
	}
	memory = int(total)
	d.Memory = memory
	d.context, err = d.ordinal.RetainPrimaryCtx()
	return err
}

// Close releases the context. With HEADROOM_CUDA_SYNC=1 it prints the table of times.
func (d *Device) Close() error {
	if d.profile != nil {
		d.profile.print(os.Stderr)
	}
	d.closeBLAS()
	if err := d.ordinal.ReleasePrimaryCtx(); err != nil {
		return fmt.Errorf("device: closing: %w", err)
	}
	return nil
}

// enter makes the device's context current on this thread and holds the goroutine there until leave.
func (d *Device) enter() error {
	err := d.context.Lock()
	if err != nil {
		runtime.UnlockOSThread()
	}
	return err
}

func (d *Device) leave() { runtime.UnlockOSThread() }

func (d *Device) c() C.CUcontext { return C.CUcontext(handle(&d.context)) }

// handle is the driver's own pointer inside one of cu's wrappers, which are all structs of one pointer.
func handle[T any](wrapper *T) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(wrapper)) }

// check turns a result of the driver into an error.
func check(r C.CUresult) error {
	if r == C.CUDA_SUCCESS {
		return nil
	}
	return fmt.Errorf("%s (CUDA error %d)", C.GoString(C.cuda_error(r)), int(r))
}

// code is the driver's number of one of cu's errors, whose type is an unexported int.
func code(err error) int { return int(reflect.ValueOf(err).Int()) }

func release(version int) string { return fmt.Sprintf("%d.%d", version/1000, version%1000/10) }

// cString is s up to its first NUL.
func cString(s string) string {
	for i := range len(s) {
		if s[i] == 0 {
			return s[:i]
		}
	}
	return s
}
