//go:build gpu

package kernels

import (
	"fmt"

	"headroom/internal/device"
)

// A Gate is y = o·σ(g), where an element of G gates Per elements of O that follow one another. Y may alias O.
type Gate struct {
	O, G, Y device.Buffer
	Per     int
}

type gateArgs struct {
	o, g, y device.Ptr
	n       int64
	per     int32
}

var gateNames = forms("gate")

// Launch puts the kernel on the stream.
func (k *Gate) Launch(s *device.Stream) {
	t, n := k.O.Type, k.O.N
	if n > 0 && fitsGate(s, n, k.Per) && fits(s, "gate", want{"G", k.G, n / k.Per, t}, want{"Y", k.Y, n, t}) {
		args := gateArgs{k.O.Ptr, k.G.Ptr, k.Y.Ptr, int64(n), int32(k.Per)}
		device.Launch(s, gateNames.of(t, n, k.O, k.Y), device.Grid{X: ceil(n, 256*pack(t)), Block: 256}, &args)
	}
}

// fitsGate reports gates that do not come out even.
func fitsGate(s *device.Stream, n, per int) bool {
	if per < 1 || n%per != 0 {
		s.Fail(fmt.Errorf("kernels: gate: each gates %d elements, which do not divide %d", per, n))
		return false
	}
	return true
}

// A GateGrad is do = dy·σ and dg = σ·(1-σ)·Σ dy·o over the elements that g gates, with σ = σ(g). DO may alias DY where
// Per is 1.
type GateGrad struct {
	O, G, DY, DO, DG device.Buffer
	Per              int
}

type gateGradArgs struct {
	o, g, dy, gradO, gradG device.Ptr
	n                      int64
	per                    int32
}

var gateGradNames, gateGradEachNames = both("gate_grad"), forms("gate_grad_each")

// Launch puts the kernel on the stream.
func (k *GateGrad) Launch(s *device.Stream) {
	t, n := k.O.Type, k.O.N
	if n == 0 || !fitsGate(s, n, k.Per) || !fits(s, "gate_grad", want{"G", k.G, n / k.Per, t}, want{"DY", k.DY, n, t},
		want{"DO", k.DO, n, t}, want{"DG", k.DG, n / k.Per, t}) {
		return
	}
	args := gateGradArgs{k.O.Ptr, k.G.Ptr, k.DY.Ptr, k.DO.Ptr, k.DG.Ptr, int64(n / k.Per), int32(k.Per)}
	if k.Per == 1 {
		device.Launch(s, gateGradEachNames.of(t, n, k.O, k.G, k.DY, k.DO, k.DG),
			device.Grid{X: ceil(n, 256*pack(t)), Block: 256}, &args)
		return
	}
	device.Launch(s, gateGradNames[t], device.Grid{X: ceil(n/k.Per, 8), Block: 256}, &args)
}

// A Columns copies the first columns of rows of From elements to rows of To elements, and puts zeros behind them.
type Columns struct {
	X, Y     device.Buffer
	From, To int
}

type columnsArgs struct {
	x, y     device.Ptr
	n        int64
	from, to int32
}

var columnsNames = both("columns")

// Launch puts the kernel on the stream.
func (k *Columns) Launch(s *device.Stream) {
	t, n := k.X.Type, k.Y.N
	if n > 0 && fits(s, "columns", want{"X", k.X, n / k.To * k.From, t}, want{"Y", k.Y, n / k.To * k.To, t}) {
		args := columnsArgs{k.X.Ptr, k.Y.Ptr, int64(n), int32(k.From), int32(k.To)}
		device.Launch(s, columnsNames[t], device.Grid{X: ceil(n, 256), Block: 256}, &args)
	}
}
