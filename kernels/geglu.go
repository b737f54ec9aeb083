//go:build gpu

package kernels

import "headroom/internal/device"

// A GeGLU is y = gelu(g)·u, with the tanh form of GELU, which is g·σ(2√(2/π)·(g + 0.044715·g³)).
type GeGLU struct{ Gate, Up, Y device.Buffer }

type gegluArgs struct {
	gate, up, y device.Ptr
	n           int64
}

var gegluNames = forms("geglu")

// Launch puts the kernel on the stream.
func (k *GeGLU) Launch(s *device.Stream) {
	t, n := k.Gate.Type, k.Gate.N
	if n > 0 && fits(s, "geglu", want{"Up", k.Up, n, t}, want{"Y", k.Y, n, t}) {
		args := gegluArgs{k.Gate.Ptr, k.Up.Ptr, k.Y.Ptr, int64(n)}
		device.Launch(s, gegluNames.of(t, n, k.Gate, k.Up, k.Y), device.Grid{X: ceil(n, 256*pack(t)), Block: 256}, &args)
	}
}

// A GeGLUGrad gives the gradients of gate and up from that of y. Outputs may alias inputs.
type GeGLUGrad struct{ Gate, Up, DY, DGate, DUp device.Buffer }

type gegluGradArgs struct {
	gate, up, dy, dgate, dup device.Ptr
	n                        int64
}

var gegluGradNames = forms("geglu_grad")

// Launch puts the kernel on the stream.
func (k *GeGLUGrad) Launch(s *device.Stream) {
	t, n := k.Gate.Type, k.Gate.N
	if n > 0 && fits(s, "geglu_grad", want{"Up", k.Up, n, t}, want{"DY", k.DY, n, t}, want{"DGate", k.DGate, n, t},
		want{"DUp", k.DUp, n, t}) {
		args := gegluGradArgs{k.Gate.Ptr, k.Up.Ptr, k.DY.Ptr, k.DGate.Ptr, k.DUp.Ptr, int64(n)}
		device.Launch(s, gegluGradNames.of(t, n, k.Gate, k.Up, k.DY, k.DGate, k.DUp),
			device.Grid{X: ceil(n, 256*pack(t)), Block: 256}, &args)
	}
}
