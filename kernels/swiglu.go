//go:build gpu

package kernels

import "headroom/internal/device"

// A SwiGLU is y = g·σ(g)·u.
type SwiGLU struct{ Gate, Up, Y device.Buffer }

type swigluArgs struct {
	gate, up, y device.Ptr
	n           int64
}

var swigluNames = forms("swiglu")

// Launch puts the kernel on the stream.
func (k *SwiGLU) Launch(s *device.Stream) {
	t, n := k.Gate.Type, k.Gate.N
	if n > 0 && fits(s, "swiglu", want{"Up", k.Up, n, t}, want{"Y", k.Y, n, t}) {
		args := swigluArgs{k.Gate.Ptr, k.Up.Ptr, k.Y.Ptr, int64(n)}
		device.Launch(s, swigluNames.of(t, n, k.Gate, k.Up, k.Y), device.Grid{X: ceil(n, 512*pack(t)), Block: 256}, &args)
	}
}

// A SwiGLUGrad is dg = dy·u·σ·(1 + g·(1-σ)) and du = dy·g·σ, with σ = σ(g). Outputs may alias inputs.
type SwiGLUGrad struct{ Gate, Up, DY, DGate, DUp device.Buffer }

type swigluGradArgs struct {
	gate, up, dy, dgate, dup device.Ptr
	n                        int64
}

var swigluGradNames = forms("swiglu_grad")

// Launch puts the kernel on the stream.
func (k *SwiGLUGrad) Launch(s *device.Stream) {
	t, n := k.Gate.Type, k.Gate.N
	if n > 0 && fits(s, "swiglu_grad", want{"Up", k.Up, n, t}, want{"DY", k.DY, n, t}, want{"DGate", k.DGate, n, t},
		want{"DUp", k.DUp, n, t}) {
		args := swigluGradArgs{k.Gate.Ptr, k.Up.Ptr, k.DY.Ptr, k.DGate.Ptr, k.DUp.Ptr, int64(n)}
		device.Launch(s, swigluGradNames.of(t, n, k.Gate, k.Up, k.DY, k.DGate, k.DUp),
			device.Grid{X: ceil(n, 256*pack(t)), Block: 256}, &args)
	}
}
