package graph

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unsafe"

	"headroom/kernels/ref"
)

// CPU is the backend that runs on the cores of this machine, in float32.
type CPU struct{ used int }

// NewCPU returns the CPU backend.
func NewCPU() *CPU { return &CPU{} }

func (*CPU) Name() string      { return "cpu" }
func (*CPU) Activation() DType { return F32 }
func (c *CPU) Free(m Memory)   { c.used -= m.Bytes() }
func (*CPU) Sync() error       { return nil }
func (*CPU) Close() error      { return nil }

func (c *CPU) Used() (int, error) { return c.used, nil }

// Choices is nil: products on a CPU have one algorithm.
func (*CPU) Choices() map[string]int { return nil }
func (*CPU) Choose(map[string]int)   {}

func (*CPU) ProductCeiling() (float64, error) {
	const n = 1024
	x := make([]float32, 3*n*n)
	for i := range x {
		x[i] = float32(i%251)/251 - 0.5
	}
	product := ref.Gemm{M: n, N: n, K: n, A: x[:n*n], B: x[n*n : 2*n*n], C: x[2*n*n:], Lda: n, Ldb: n, Ldc: n, Batch: 1}
	return fastest(2*n*n*n, 5, func() error {
		product.Run()
		return nil
	})
}

// fastest is the operations a second of the best of so many runs after one.
func fastest(operations float64, runs int, run func() error) (float64, error) {
	best := 0.0
	for i := range runs + 1 {
		began := time.Now()
		if err := run(); err != nil {
			return 0, err
		}
		if rate := operations / time.Since(began).Seconds(); i > 0 {
			best = max(best, rate)
		}
	}
	return best, nil
}

// hostMemory is 64-byte aligned memory of this process.
type hostMemory struct{ b []byte }

func (m *hostMemory) Bytes() int { return len(m.b) }

func (c *CPU) Alloc(bytes int) (Memory, error) {
	const line, much = 64, 1 << 28
	if bytes > much {
		if free := HostFree(c.used); bytes > free {
			return nil, fmt.Errorf("this machine has %.2f GiB of memory free, and %.2f GiB were asked for",
				gib(free), gib(bytes))
		}
	}
	c.used += bytes
	m := make([]byte, bytes+line)
	skip := -int(uintptr(unsafe.Pointer(&m[0]))) & (line - 1)
	return &hostMemory{m[skip : skip+bytes : skip+bytes]}, nil
}

// floats is a buffer as a slice, nil where it is missing.
func floats(b Buf) []float32 {
	if b.Missing() {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b.Mem.(*hostMemory).b[b.Off])), b.Len)
}

func tokens(b Buf) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(&b.Mem.(*hostMemory).b[b.Off])), b.Len)
}

// hostBuf makes a buffer of a slice, without copying.
func hostBuf(data any) Buf {
	switch x := data.(type) {
	case []float32:
		return Buf{Mem: &hostMemory{unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))}, Len: len(x), Type: F32}
	case []int32:
		return Buf{Mem: &hostMemory{unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))}, Len: len(x), Type: I32}
	case float32:
		return hostBuf([]float32{x})
	}
	panic(fmt.Sprintf("graph: a %T is no buffer", data))
}

func (*CPU) Upload(dst Buf, src []float32) error {
	copy(floats(dst), src)
	return nil
}

func (*CPU) UploadTokens(dst Buf, src []int32) error {
	copy(tokens(dst), src)
	return nil
}

func (*CPU) Download(dst []float32, src Buf) error {
	copy(dst, floats(src))
	return nil
}

func (*CPU) Capture(ks []Kernel) (Recording, error) {
	return listed(inOrder(ks)), nil
}

func (*CPU) Compile(in *Instr) (Kernel, error) {
	run := cpuKernel(in)
	return func() error {
		run()
		return nil
	}, nil
}

// Join fails: a machine without GPUs trains alone.
func (*CPU) Join(id []byte, rank, size int) (Group, error) {
	return nil, errors.New("graph: training on several ranks needs one GPU for each: train.device=cuda")
}

// cpuOptimizer runs clipping and AdamW over the flat buffers.
type cpuOptimizer struct {
	norm  ref.SumSquares
	sum   [1]float64
	adamw ref.AdamW
	accum float64
	hyper Hyper
	group Group
	sums  []float64 // of all ranks
}

func (*CPU) Optimizer(b OptimizerBufs) (Optimizer, error) {
	o := &cpuOptimizer{accum: float64(b.Accum), group: b.Group}
	if b.Group != nil {
		o.accum *= float64(b.Group.Size())
		o.sums = make([]float64, b.Group.Size())
	}
	o.norm = ref.SumSquares{X: floats(b.Grads), Out: o.sum[:]}
	o.adamw = ref.AdamW{W: floats(b.Values), G: floats(b.Grads), M: floats(b.M), V: floats(b.V), Decayed: b.Decayed}
	return o, nil
}

func (o *cpuOptimizer) Set(h Hyper) error {
	o.hyper = h
	return nil
}

func (o *cpuOptimizer) Run() error {
	h := o.hyper
	o.norm.Run()
	if g := o.group; g != nil {
		o.sums[g.Rank()] = o.sum[0]
		if err := g.Gather(hostBuf(unsafe.Slice((*int32)(unsafe.Pointer(&o.sums[0])), 2*len(o.sums)))); err != nil {
			return err
		}
		o.sum[0] = 0
		for _, sum := range o.sums {
			o.sum[0] += sum
		}
	}
	norm, _ := o.Norm()
	scale := 1 / o.accum
	if h.Clip > 0 && norm > h.Clip {
		scale *= h.Clip / norm
	}
	o.adamw.Hyper = ref.AdamWHyper{
		LR: h.LR, Beta1: h.Beta1, Beta2: h.Beta2, Eps: h.Eps, Decay: h.Decay, Scale: scale,
		Correct1: 1 - math.Pow(h.Beta1, float64(h.Step)), Correct2: 1 - math.Pow(h.Beta2, float64(h.Step)),
	}
	o.adamw.Run()
	return nil
}

func (o *cpuOptimizer) Norm() (float64, error) { return math.Sqrt(o.sum[0]) / o.accum, nil }

// cpuFeed is a copy: a step on this backend is done when it returns, and nothing runs beside it.
type cpuFeed struct{ next []int32 }

func (*CPU) Feed(n int) (Feed, error) { return &cpuFeed{make([]int32, n)}, nil }

func (f *cpuFeed) Put(next []int32) error {
	copy(f.next, next)
	return nil
}

func (f *cpuFeed) Take(dst Buf, at int) error {
	copy(tokens(dst), f.next[at:])
	return nil
}

func (*cpuFeed) Close() error { return nil }
