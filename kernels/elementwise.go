//go:build gpu

package kernels

import "headroom/internal/device"

// An Add is Out = X + Y. Out may alias X or Y.
type Add struct{ X, Y, Out device.Buffer }

type addArgs struct {
	x, y, out device.Ptr
	n         int64
}

var addNames = forms("add")

// Launch puts the kernel on the stream.
func (k *Add) Launch(s *device.Stream) {
	t, n := k.X.Type, k.X.N
	if n > 0 && fits(s, "add", want{"Y", k.Y, n, t}, want{"Out", k.Out, n, t}) {
		args := addArgs{k.X.Ptr, k.Y.Ptr, k.Out.Ptr, int64(n)}
		device.Launch(s, addNames.of(t, n, k.X, k.Y, k.Out), device.Grid{X: ceil(n, 512*pack(t)), Block: 256}, &args)
	}
}

// A Cast is Y = X, from float32 to bf16.
type Cast struct{ X, Y device.Buffer }

type castArgs struct {
	x, y device.Ptr
	n    int64
}

var castNames = [2]string{"cast", "cast_any"}

// Launch puts the kernel on the stream.
func (k *Cast) Launch(s *device.Stream) {
	if n := k.X.N; n > 0 && fits(s, "cast", want{"X", k.X, n, device.F32}, want{"Y", k.Y, n, device.BF16}) {
		args := castArgs{k.X.Ptr, k.Y.Ptr, int64(n)}
		device.Launch(s, castNames[max(anyForm(device.F32, n, k.X), anyForm(device.BF16, n, k.Y))],
			device.Grid{X: ceil(n, 256*8), Block: 256}, &args)
	}
}

// A Noise fills X with numbers near normal, of standard deviation Scale: something to time products with.
type Noise struct {
	X     device.Buffer
	Seed  uint64
	Scale float32
}

type noiseArgs struct {
	x     device.Ptr
	n     int64
	seed  uint64
	scale float32
}

var noiseNames = both("noise")

// Launch puts the kernel on the stream.
func (k *Noise) Launch(s *device.Stream) {
	if n := k.X.N; n > 0 {
		args := noiseArgs{k.X.Ptr, int64(n), k.Seed, k.Scale}
		device.Launch(s, noiseNames[k.X.Type], device.Grid{X: ceil(n, 256), Block: 256}, &args)
	}
}
