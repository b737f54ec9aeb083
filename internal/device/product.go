//go:build gpu

package device

/*
#cgo noescape blas_run
#cgo nocallback blas_run
#include "blaslt.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"time"
)

// workspaceBytes is what each stream lends to cuBLASLt; 32 MiB is what its Hopper kernels ask for at most.
const workspaceBytes = 64 << 20

// A Product is the shape of a matrix product, row-major: C [M, N] = Scale · op(A)·op(B) (+ C) (+ bias [N]), Batch of
// them at the given strides in elements. In is the type of A and B, Out that of C; sums are float32, never TF32.
type Product struct {
	TransA, TransB            bool
	M, N, K                   int
	Lda, Ldb, Ldc             int
	Batch                     int // 0 is 1
	StrideA, StrideB, StrideC int
	In, Out                   Type
	Bias, Accumulate          bool
}

func (p Product) String() string {
	op := func(trans bool) string { return map[bool]string{true: "ᵀ", false: ""}[trans] }
	s := fmt.Sprintf("A%s·B%s %dx%dx%d %v to %v", op(p.TransA), op(p.TransB), p.M, p.N, p.K, p.In, p.Out)
	if p.Batch > 1 {
		s = fmt.Sprintf("%d × %s", p.Batch, s)
	}
	if p.Bias {
		s += " + bias"
	}
	if p.Accumulate {
		s += " accumulated"
	}
	return s
}

// FLOPs is the number of operations.
func (p Product) FLOPs() float64 {
	return 2 * float64(p.M) * float64(p.N) * float64(p.K) * float64(max(p.Batch, 1))
}

// blas holds cuBLASLt's handle and a plan for each shape.
type blas struct {
	handle C.cublasLtHandle_t
	plans  map[planKey]*plan
}

type planKey struct {
	Product
	alignA, alignB, alignC uint16
}

type plan struct {
	c      C.product_plan
	best   int           // of c.found
	chosen bool          // by Choose
	took   time.Duration // time of the best, once it was measured
	name   string
}

// Multiply runs a product. The first call of a shape asks cuBLASLt for its algorithms and takes the first; Tune times
// them.
func (s *Stream) Multiply(p Product, a, b, c, bias Buffer, scale float32) {
	if s.err != nil || s.dry {
		return
	}
	plan, err := s.plan(p, a, b, c)
	if err == nil {
		err = s.multiply(plan, plan.best, p, a, b, c, bias, scale)
	}
	if err != nil {
		s.err = fmt.Errorf("device: product %v: %w", p, err)
	}
}

func (s *Stream) multiply(plan *plan, algorithm int, p Product, a, b, c, bias Buffer, scale float32) error {
	beta := C.float(0)
	if p.Accumulate {
		beta = 1
	}
	run := func() error {
		return blasError(C.blas_run(s.dev.blasContext(), s.dev.blas.handle, &plan.c, C.int(algorithm), C.CUdeviceptr(a.Ptr),
			C.CUdeviceptr(b.Ptr), C.CUdeviceptr(c.Ptr),
			C.CUdeviceptr(bias.Ptr), C.float(scale), beta, C.CUdeviceptr(s.workspace.Ptr),
			C.size_t(s.workspace.N), s.blasStream()))
	}
	if s.dev.profile != nil && !s.capturing {
		return s.dev.profile.time(s, plan.name, run)
	}
	return run()
}

// Tune times the algorithms that cuBLASLt proposes for a product, keeps the fastest for the shape, and returns its
// time; it does so once for each shape. It overwrites c; a and b should hold numbers like those of later (zeros draw
// less power than anything real, and run faster). With steady, products that fill a step are compared under the load of
// a step.
func (s *Stream) Tune(p Product, a, b, c, bias Buffer, steady bool) (time.Duration, error) {
	if s.err != nil {
		return 0, s.Sync()
	}
	plan, err := s.plan(p, a, b, c)
	if err != nil {
		return 0, fmt.Errorf("device: product %v: %w", p, err)
	}
	if plan.took > 0 || plan.chosen {
		return plan.took, nil
	}
	events := [5]*Event{}
	for i := range events {
		if events[i], err = s.dev.NewEvent(); err != nil {
			return 0, err
		}
		defer events[i].Close()
	}
	timed := func(i int) (time.Duration, error) {
		return s.time(events[:], func() error { return s.multiply(plan, i, p, a, b, c, bias, 1) })
	}
	took := make([]time.Duration, plan.c.count)
	for i := range took {
		if took[i], err = timed(i); err != nil {
			return 0, fmt.Errorf("device: tuning %v: %w", p, err)
		}
		if took[i] > 0 && (plan.took == 0 || took[i] < plan.took) {
			plan.took, plan.best = took[i], i
		}
	}
	if steady && plan.took >= heavy {
		if err := plan.tuneLoaded(took, timed); err != nil {
			return 0, fmt.Errorf("device: tuning %v: %w", p, err)
		}
	}
	return plan.took, s.Sync()
}

// Under load the power limit lowers the clock, and by how much depends on the algorithm. Products that fill a step are
// therefore compared while the clock is down, among the algorithms that come near the fastest: in turns, for it goes on
// falling, and after one turn that does not count.
const (
	heavy = 50 * time.Microsecond // a shorter product draws little power in a step
	near  = 1.1
	turns = 4
	turn  = 15 * time.Millisecond
)

// tuneLoaded chooses again, given how long each algorithm took for a moment.
func (p *plan) tuneLoaded(took []time.Duration, timed func(int) (time.Duration, error)) error {
	fastest := p.took
	sums := make([]time.Duration, len(took)) // of each algorithm's means
	for n := range turns {
		for i, alone := range took {
			if alone == 0 || float64(alone) > near*float64(fastest) {
				continue
			}
			var sum time.Duration
			runs := 0
			for began := time.Now(); runs == 0 || time.Since(began) < turn; runs++ {
				t, err := timed(i)
				if err != nil {
					return err
				}
				sum += t
			}
			if n > 0 {
				sums[i] += sum / time.Duration(runs)
			}
		}
	}
	p.took = 0
	for i, sum := range sums {
		if mean := sum / (turns - 1); mean > 0 && (p.took == 0 || mean < p.took) {
			p.took, p.best = mean, i
		}
	}
	return nil
}

// time runs a product between each two events in a row and returns the shortest time except the first, in which its
// kernel may have been loaded. It is 0 for an algorithm that was proposed but cannot run the product. The host runs
// ahead of the device, so that launching costs nothing.
func (s *Stream) time(events []*Event, run func() error) (time.Duration, error) {
	s.Record(events[0])
	for _, e := range events[1:] {
		if run() != nil {
			return 0, nil
		}
		s.Record(e)
	}
	var shortest time.Duration
	for i := 2; i < len(events); i++ {
		took, err := events[i].Since(events[i-1])
		if err != nil {
			return 0, err
		}
		if shortest == 0 || took < shortest {
			shortest = took
		}
	}
	return shortest, s.err
}

// Choices are the algorithms in use, by shape. Timing may choose others the next time, and another algorithm rounds
// differently: a run that must repeat or resume bit for bit saves them and passes them to Choose.
func (d *Device) Choices() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	choices := map[string]int{}
	if d.blas != nil {
		for key, p := range d.blas.plans {
			choices[key.name()] = p.best
		}
	}
	return choices
}

// Choose sets the algorithms of shapes that have not been seen yet. Tune leaves them as they are.
func (d *Device) Choose(choices map[string]int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.choices = choices
}

// name identifies a plan.
func (k planKey) name() string {
	return fmt.Sprintf("%v, rows %d %d %d, products %d %d %d, alignment %d %d %d", k.Product, k.Lda, k.Ldb, k.Ldc,
		k.StrideA, k.StrideB, k.StrideC, k.alignA, k.alignB, k.alignC)
}

// plan finds or makes the plan of a shape, and the stream's workspace.
func (s *Stream) plan(p Product, a, b, c Buffer) (*plan, error) {
	if err := p.fits(a, b, c); err != nil {
		return nil, err
	}
	d := s.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.blas == nil {
		if err := d.openBLAS(); err != nil {
			return nil, err
		}
	}
	if s.workspace.Nil() {
		w, err := d.Alloc(U8, workspaceBytes)
		if err != nil {
			return nil, err
		}
		s.workspace = w
	}
	key := planKey{p, alignment(a.Ptr), alignment(b.Ptr), alignment(c.Ptr)}
	if found := d.blas.plans[key]; found != nil {
		return found, nil
	}
	made, err := d.newPlan(key)
	if err != nil {
		return nil, err
	}
	d.blas.plans[key] = made
	return made, nil
}

// fits says whether the operands are large enough for the product.
func (p Product) fits(a, b, c Buffer) error {
	rowsA, rowsB := p.M, p.K
	if p.TransA {
		rowsA = p.K
	}
	if p.TransB {
		rowsB = p.N
	}
	colsA, colsB := p.M+p.K-rowsA, p.K+p.N-rowsB
	last := max(p.Batch, 1) - 1
	for _, x := range []struct {
		name           string
		buf            Buffer
		rows, cols, ld int
		stride         int
		t              Type
	}{
		{"A", a, rowsA, colsA, p.Lda, p.StrideA, p.In}, {"B", b, rowsB, colsB, p.Ldb, p.StrideB, p.In},
		{"C", c, p.M, p.N, p.Ldc, p.StrideC, p.Out},
	} {
		if x.ld < x.cols || last*x.stride+(x.rows-1)*x.ld+x.cols > x.buf.N || x.buf.Type != x.t {
			return fmt.Errorf("%s [%d, %d] of %v with row stride %d and batch stride %d does not fit %d elements of %v", x.name,
				x.rows, x.cols, x.t, x.ld, x.stride, x.buf.N, x.buf.Type)
		}
	}
	return nil
}

func (d *Device) newPlan(key planKey) (*plan, error) {
	types := map[Type]C.int{F32: C.CUDA_R_32F, BF16: C.CUDA_R_16BF}
	flag := map[bool]C.int{true: 1}
	in := C.product{
		transA: flag[key.TransA], transB: flag[key.TransB], m: C.long(key.M), n: C.long(key.N), k: C.long(key.K),
		lda: C.long(key.Lda), ldb: C.long(key.Ldb), ldc: C.long(key.Ldc), batch: C.int(max(key.Batch, 1)),
		strideA: C.long(key.StrideA), strideB: C.long(key.StrideB), strideC: C.long(key.StrideC),
		in: types[key.In], out: types[key.Out], bias: flag[key.Bias],
		alignA: C.uint(key.alignA), alignB: C.uint(key.alignB), alignC: C.uint(key.alignC), workspace: workspaceBytes,
	}
	p := &plan{name: "product " + key.Product.String()}
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.leave()
	if err := blasError(C.blas_plan(d.blas.handle, &in, &p.c)); err != nil {
		return nil, err
	}
	if p.c.count == 0 {
		return nil, errors.New("cuBLASLt has no algorithm for it")
	}
	if i, ok := d.choices[key.name()]; ok && i < int(p.c.count) {
		p.best, p.chosen = i, true
	}
	return p, nil
}

func (d *Device) openBLAS() error {
	if what := C.blas_open(); what != nil {
		return errors.New(C.GoString(what))
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	b := &blas{plans: map[planKey]*plan{}}
	if err := blasError(C.blas_create(&b.handle)); err != nil {
		return err
	}
	d.blas = b
	return nil
}

func (d *Device) closeBLAS() {
	if d.blas == nil {
		return
	}
	for _, p := range d.blas.plans {
		C.blas_free(&p.c)
	}
	C.blas_destroy(d.blas.handle)
	d.blas = nil
}

func (d *Device) blasContext() C.CUcontext { return C.CUcontext(handle(&d.context)) }
func (s *Stream) blasStream() C.CUstream   { return C.CUstream(handle(&s.stream)) }

// alignment is the largest power of two that divides an address, 256 at most.
func alignment(p Ptr) uint16 {
	if low := p & -p; low < align {
		return uint16(low)
	}
	return align
}

func blasError(status C.int) error {
	if status == C.CUBLAS_STATUS_SUCCESS {
		return nil
	}
	names := map[C.int]string{
		C.CUBLAS_STATUS_NOT_INITIALIZED: "not initialized", C.CUBLAS_STATUS_ALLOC_FAILED: "out of memory",
		C.CUBLAS_STATUS_INVALID_VALUE: "invalid value",
		C.CUBLAS_STATUS_ARCH_MISMATCH: "not for this GPU", C.CUBLAS_STATUS_EXECUTION_FAILED: "execution failed",
		C.CUBLAS_STATUS_INTERNAL_ERROR: "internal error", C.CUBLAS_STATUS_NOT_SUPPORTED: "not supported",
	}
	return fmt.Errorf("cuBLASLt: %s (status %d)", names[status], int(status))
}
