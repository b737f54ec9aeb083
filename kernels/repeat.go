//go:build gpu

package kernels

import "headroom/internal/device"

// A Repeat is Y[r, t, i] = Scale·X[r, i]: X [Rows, Inner], Y [Rows, Times, Inner].
type Repeat struct {
	X, Y               device.Buffer
	Rows, Times, Inner int
	Scale              float32
}

// A Fold is Y[r, i] = Scale·Σ_t X[r, t, i]: X [Rows, Times, Inner], Y [Rows, Inner].
type Fold struct {
	X, Y               device.Buffer
	Rows, Times, Inner int
	Scale              float32
}

type repeatArgs struct {
	x, y        device.Ptr
	rows, inner int64
	times       int32
	scale       float32
}

var repeatNames, foldNames = forms("repeat"), forms("fold")

// Launch puts the kernel on the stream.
func (k *Repeat) Launch(s *device.Stream) {
	t, n := k.X.Type, k.Rows*k.Inner
	if n*k.Times > 0 && fits(s, "repeat", want{"X", k.X, n, t}, want{"Y", k.Y, n * k.Times, t}) {
		args := repeatArgs{k.X.Ptr, k.Y.Ptr, int64(k.Rows), int64(k.Inner), int32(k.Times), k.Scale}
		device.Launch(s, repeatNames.of(t, k.Inner, k.X, k.Y),
			device.Grid{X: ceil(k.Rows*k.Times*ceil(k.Inner, pack(t)), 256), Block: 256}, &args)
	}
}

// Launch puts the kernel on the stream.
func (k *Fold) Launch(s *device.Stream) {
	t, n := k.X.Type, k.Rows*k.Inner
	if n*k.Times > 0 && fits(s, "fold", want{"X", k.X, n * k.Times, t}, want{"Y", k.Y, n, t}) {
		args := repeatArgs{k.X.Ptr, k.Y.Ptr, int64(k.Rows), int64(k.Inner), int32(k.Times), k.Scale}
		device.Launch(s, foldNames.of(t, k.Inner, k.X, k.Y),
			device.Grid{X: ceil(k.Rows*ceil(k.Inner, pack(t)), 256), Block: 256}, &args)
	}
}
