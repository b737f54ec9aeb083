//go:build gpu

package kernels

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"headroom/internal/device"
)

// sizes are those at which vectors, warps and blocks begin and end.
var sizes = []int{1, 3, 63, 64, 65, 127}

var types = []device.Type{device.F32, device.BF16}

var openOnce = sync.OnceValues(func() (*device.Device, error) { return Open(0) })

// A rig runs kernels in one test: its buffers have guard bands, its outputs are poisoned, every launch runs twice.
type rig struct {
	testing.TB
	dev  *device.Device
	s    *device.Stream
	bufs []device.Buffer // with their guards
}

const guard = 1024 // bytes on each side of a buffer

// newRig skips the test where there is no GPU, and fails it there when HEADROOM_GPU_TESTS=1.
func newRig(t testing.TB) *rig {
	t.Helper()
	dev, err := openOnce()
	if err != nil && os.Getenv("HEADROOM_GPU_TESTS") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	s, err := dev.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{TB: t, dev: dev, s: s}
	t.Cleanup(r.close)
	return r
}

func (r *rig) close() {
	for _, b := range r.bufs {
		around := make([]byte, 2*guard)
		device.Download(r.s, around[:guard], b)
		device.Download(r.s, around[guard:], b.Slice(b.N-guard, b.N))
		r.sync()
		if !bytes.Equal(around, bytes.Repeat([]byte{0xa5}, 2*guard)) {
			r.Errorf("a kernel wrote outside a buffer of %d bytes", b.N-2*guard)
		}
		r.dev.Free(b)
	}
	if err := r.s.Close(); err != nil {
		r.Error(err)
	}
}

func (r *rig) sync() {
	r.Helper()
	if err := r.s.Sync(); err != nil {
		r.Fatal(err)
	}
}

// out is a buffer of poison.
func (r *rig) out(t device.Type, n int) device.Buffer {
	r.Helper()
	b, err := r.dev.Alloc(device.U8, n*t.Size()+2*guard)
	if err != nil {
		r.Fatal(err)
	}
	r.bufs = append(r.bufs, b)
	r.s.Fill(b, 0xa5)
	v := device.Buffer{Ptr: b.Ptr + guard, N: n, Type: t}
	r.s.Fill(v, 0xff)
	return v
}

// in is a buffer of x, which is first rounded to the type.
func (r *rig) in(t device.Type, x []float32) device.Buffer {
	r.Helper()
	b := r.out(t, len(x))
	r.upload(b, x)
	return b
}

func (r *rig) upload(b device.Buffer, x []float32) {
	if b.Type == device.F32 {
		device.Upload(r.s, b, x)
		return
	}
	h := make([]uint16, len(x))
	for i := range x {
		h[i] = device.ToBF16(x[i])
		x[i] = device.FromBF16(h[i])
	}
	device.Upload(r.s, b, h)
}

func (r *rig) tokens(x []int32) device.Buffer {
	r.Helper()
	b := r.out(device.I32, len(x))
	device.Upload(r.s, b, x)
	return b
}

func (r *rig) read(b device.Buffer) []float32 {
	r.Helper()
	x := make([]float32, b.N)
	if b.Type == device.F32 {
		device.Download(r.s, x, b)
		r.sync()
		return x
	}
	h := make([]uint16, b.N)
	device.Download(r.s, h, b)
	r.sync()
	for i := range h {
		x[i] = device.FromBF16(h[i])
	}
	return x
}

// A result is an output of a kernel and what it should be. Start is what it holds before, poison when nil.
type result struct {
	name  string
	buf   device.Buffer
	want  []float32
	start []float32
	scale float64 // ‖terms‖ that want is a difference of, where that is more than ‖want‖
}

// check runs launch twice and compares each output with what it should be and with itself.
func (r *rig) check(launch func(*device.Stream), results ...result) {
	r.Helper()
	var first [][]float32
	for range 2 {
		for _, x := range results {
			if x.start != nil {
				r.upload(x.buf, append([]float32(nil), x.start...))
			} else {
				r.s.Fill(x.buf, 0xff)
			}
		}
		launch(r.s)
		r.sync()
		for i, x := range results {
			got := r.read(x.buf)
			if len(first) < len(results) {
				first = append(first, got)
				if err := near(x.buf.Type, got, x.want, x.scale); err != nil {
					r.Errorf("%s: %v", x.name, err)
				}
				continue
			}
			for j := range got {
				if math.Float32bits(got[j]) != math.Float32bits(first[i][j]) {
					r.Errorf("%s: element %d differs between two runs: %v, %v", x.name, j, first[i][j], got[j])
					break
				}
			}
		}
	}
}

// near says whether got is as near to want as rounding allows: in bf16 at most twice the error that rounding want
// makes.
func near(t device.Type, got, want []float32, scale float64) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d elements, want %d", len(got), len(want))
	}
	var diff, size, rounding float64
	worst := 0
	for i, w := range want {
		d := float64(got[i]) - float64(w)
		if math.Abs(d) > math.Abs(float64(got[worst])-float64(want[worst])) || d != d {
			worst = i
		}
		diff, size = diff+d*d, size+float64(w)*float64(w)
		e := float64(device.FromBF16(device.ToBF16(w))) - float64(w)
		rounding += e * e
	}
	size = max(size, scale*scale)
	allowed := 3e-6 * math.Sqrt(size)
	if t == device.BF16 {
		allowed += 2*math.Sqrt(rounding) + 1e-3*math.Sqrt(size/math.Max(float64(len(want)), 1))
	}
	if math.Sqrt(diff) <= allowed+1e-30 {
		return nil
	}
	return fmt.Errorf("error %.3g of %.3g, allowed %.3g; worst at %d: %v, want %v", math.Sqrt(diff), math.Sqrt(size),
		allowed, worst, got[worst], want[worst])
}

func normal(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// relative is ‖got - want‖ / ‖want‖.
func relative(got, want []float32) float64 {
	var diff, size float64
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		diff, size = diff+d*d, size+float64(want[i])*float64(want[i])
	}
	if diff == 0 {
		return 0
	}
	return math.Sqrt(diff / size)
}
