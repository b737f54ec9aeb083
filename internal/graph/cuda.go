//go:build gpu

package graph

import (
	"errors"
	"os"

	"headroom/internal/device"
	"headroom/kernels"
)

// CUDA is the backend of one NVIDIA GPU. With bf16 activations, weights that kernels read, activations and their
// gradients are bf16; master weights, moments, weight gradients, statistics and losses are float32.
type CUDA struct {
	dev        *device.Device
	stream     *device.Stream
	activation DType
	tables     map[ropeKey]device.Buffer
	free       int // bytes of the device at the start
}

// NewCUDA opens a GPU as a backend that stores activations in the given type.
func NewCUDA(ordinal int, activation DType) (Backend, error) {
	dev, err := kernels.Open(ordinal)
	if err != nil {
		return nil, err
	}
	c := &CUDA{dev: dev, activation: activation, tables: map[ropeKey]device.Buffer{}}
	if c.stream, err = dev.NewStream(); err == nil {
		c.free, err = dev.FreeMemory()
	}
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return c, nil
}

func (c *CUDA) Name() string      { return c.dev.Name }
func (c *CUDA) Activation() DType { return c.activation }
func (c *CUDA) fuses()            {}

// Device is the GPU, and Stream the queue that everything of this backend runs on.
func (c *CUDA) Device() *device.Device { return c.dev }

// Stream is the queue that everything of this backend runs on.
func (c *CUDA) Stream() *device.Stream { return c.stream }

// deviceMemory is one allocation on the GPU.
type deviceMemory struct{ buf device.Buffer }

func (m *deviceMemory) Bytes() int { return m.buf.N }

func (c *CUDA) Alloc(bytes int) (Memory, error) {
	buf, err := c.dev.Alloc(device.U8, bytes)
	if err != nil {
		return nil, err
	}
	c.stream.Fill(buf, 0)
	return &deviceMemory{buf}, c.stream.Sync()
}

func (c *CUDA) noise(m Memory) {
	(&kernels.Noise{X: on(Buf{Mem: m, Len: m.Bytes() / c.activation.Size(), Type: c.activation}),
		Seed: 1, Scale: 1}).Launch(c.stream)
}

func (c *CUDA) Free(m Memory) { c.stream.Fail(c.dev.Free(m.(*deviceMemory).buf)) }

var deviceTypes = [...]device.Type{F32: device.F32, BF16: device.BF16, I32: device.I32}

// on is a buffer as the kernels take it, absent where it is missing.
func on(b Buf) device.Buffer {
	if b.Missing() {
		return device.Buffer{}
	}
	return device.Buffer{Ptr: b.Mem.(*deviceMemory).buf.Ptr + device.Ptr(b.Off), N: b.Len, Type: deviceTypes[b.Type]}
}

func (c *CUDA) Upload(dst Buf, src []float32) error {
	if dst.Type == BF16 {
		half := make([]uint16, len(src))
		for i, x := range src {
			half[i] = device.ToBF16(x)
		}
		device.Upload(c.stream, on(dst), half)
	} else {
		device.Upload(c.stream, on(dst), src)
	}
	return c.stream.Sync()
}

func (c *CUDA) UploadTokens(dst Buf, src []int32) error {
	device.Upload(c.stream, on(dst), src)
	return c.stream.Err()
}

func (c *CUDA) Download(dst []float32, src Buf) error {
	if src.Type != BF16 {
		device.Download(c.stream, dst, on(src))
		return c.stream.Sync()
	}
	half := make([]uint16, len(dst))
	device.Download(c.stream, half, on(src))
	err := c.stream.Sync()
	for i, h := range half {
		dst[i] = device.FromBF16(h)
	}
	return err
}

// Capture runs the kernels once, so that modules are loaded and scratch memory has its size, and records them.
// HEADROOM_CUDA_SYNC leaves them to be launched, and timed, one by one.
func (c *CUDA) Capture(ks []Kernel) (Recording, error) {
	each := inOrder(ks)
	if os.Getenv("HEADROOM_CUDA_SYNC") != "" {
		return listed(each), nil
	}
	err := each()
	if err = errors.Join(err, c.stream.Sync()); err != nil {
		return nil, err
	}
	g, err := c.stream.Capture(func() { c.stream.Fail(each()) })
	if err != nil {
		return nil, err
	}
	return cudaRecording{c.stream, g}, nil
}

type cudaRecording struct {
	stream *device.Stream
	graph  *device.Graph
}

func (r cudaRecording) Run() error {
	r.graph.Launch(r.stream)
	return r.stream.Err()
}

// Close waits for the last run. Its error is found by the next call that asks the stream.
func (r cudaRecording) Close() error {
	_ = r.stream.Sync()
	return r.graph.Close()
}

func (c *CUDA) Sync() error { return c.stream.Sync() }

func (c *CUDA) Choices() map[string]int       { return c.dev.Choices() }
func (c *CUDA) Choose(choices map[string]int) { c.dev.Choose(choices) }

func (c *CUDA) Used() (int, error) {
	free, err := c.dev.FreeMemory()
	return c.free - free, err
}

func (c *CUDA) ProductCeiling() (float64, error) {
	const n = 8192
	t := deviceTypes[c.activation]
	var x [3]device.Buffer
	for i := range x {
		var err error
		if x[i], err = c.dev.Alloc(t, n*n); err != nil {
			return 0, err
		}
		defer c.dev.Free(x[i])
		(&kernels.Noise{X: x[i], Seed: uint64(i), Scale: 1}).Launch(c.stream)
	}
	product := kernels.Gemm{M: n, N: n, K: n, A: x[0], B: x[1], C: x[2], Lda: n, Ldb: n, Ldc: n, Batch: 1}
	if _, err := product.Tune(c.stream, false); err != nil {
		return 0, err
	}
	const batch = 10
	return fastest(batch*2*float64(n)*n*n, 3, func() error {
		for range batch {
			product.Launch(c.stream)
		}
		return c.stream.Sync()
	})
}

func (c *CUDA) Close() error {
	return errors.Join(c.stream.Sync(), c.stream.Close(), c.dev.Close())
}

// cudaOptimizer keeps the hyper-parameters and the norm on the device: a step waits for nothing.
type cudaOptimizer struct {
	c     *CUDA
	adamw kernels.AdamW
	hyper *device.Pinned[float32]
	accum int
}

func (c *CUDA) Optimizer(b OptimizerBufs) (Optimizer, error) {
	o := &cudaOptimizer{c: c, accum: b.Accum}
	var err error
	if o.hyper, err = device.NewPinned[float32](c.dev, kernels.HyperWords); err != nil {
		return nil, err
	}
	o.adamw = kernels.AdamW{W: on(b.Values), G: on(b.Grads), M: on(b.M), V: on(b.V), Decayed: b.Decayed}
	if b.Compute.Type == BF16 {
		o.adamw.Copy = on(b.Compute)
	}
	if g, ok := b.Group.(*cudaGroup); ok {
		o.accum *= g.Size()
		o.adamw.Rank, o.adamw.Ranks, o.adamw.Gather = g.Rank(), g.Size(), g.comm.AllGather
	}
	if o.adamw.Hyper, err = c.dev.Alloc(device.F32, kernels.HyperWords); err == nil {
		o.adamw.Norm, err = c.dev.Alloc(device.F32, 2)
	}
	return o, err
}

func (o *cudaOptimizer) Set(h Hyper) error {
	words := kernels.AdamWHyper{
		LR: h.LR, Beta1: h.Beta1, Beta2: h.Beta2, Eps: h.Eps, Decay: h.Decay, Clip: h.Clip, Scale: 1 / float64(o.accum),
		Correct1: kernels.Correct(h.Beta1, h.Step), Correct2: kernels.Correct(h.Beta2, h.Step),
	}.Words()
	copy(o.hyper.Data, words[:])
	device.Upload(o.c.stream, o.adamw.Hyper, o.hyper.Data)
	return o.c.stream.Err()
}

func (o *cudaOptimizer) Run() error {
	o.adamw.Launch(o.c.stream)
	return o.c.stream.Err()
}

func (o *cudaOptimizer) Norm() (float64, error) {
	var norm [2]float32
	device.Download(o.c.stream, norm[:], o.adamw.Norm)
	return float64(norm[0]), o.c.stream.Sync()
}
