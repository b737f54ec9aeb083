//go:build gpu

package kernels

import "headroom/internal/device"

// An AddScaled is Y = X + A·Z, where column c of Z is multiplied by A[c]. X, Y, Z [Rows, C]; A [C]. Y may alias X or Z.
type AddScaled struct {
	X, Z, A, Y device.Buffer
	Rows, C    int
}

type addScaledArgs struct {
	x, z, a, y device.Ptr
	n          int64
	c          int32
}

var addScaledNames, addScaledGradNames = both("add_scaled"), both("add_scaled_grad")

// Launch puts the kernel on the stream.
func (k *AddScaled) Launch(s *device.Stream) {
	t, n := k.X.Type, k.Rows*k.C
	if n > 0 && fits(s, "add_scaled", want{"X", k.X, n, t}, want{"Z", k.Z, n, t}, want{"A", k.A, k.C, t},
		want{"Y", k.Y, n, t}) {
		args := addScaledArgs{k.X.Ptr, k.Z.Ptr, k.A.Ptr, k.Y.Ptr, int64(n), int32(k.C)}
		device.Launch(s, addScaledNames[t], device.Grid{X: ceil(n, 256), Block: 256}, &args)
	}
}

// An AddScaledGrad is DZ = A·DY and DA = Σ_rows Z·DY, which is float32 and which Accumulate adds to. DZ may alias DY.
type AddScaledGrad struct {
	Z, A, DY, DZ, DA device.Buffer
	Rows, C          int
	Accumulate       bool
}

type addScaledGradArgs struct {
	z, a, dy, dz, part device.Ptr
	rows               int64
	c                  int32
}

// shares is the number of blocks that share the rows, as in ColSum.
func (k *AddScaledGrad) shares() int { return max(1, min(ceil(k.Rows, 64), 1024/ceil(k.C, 32))) }

// Scratch is the bytes that Launch takes from its stream's scratch memory.
func (k *AddScaledGrad) Scratch() int { return k.shares() * k.C * 4 }

// Launch puts the kernels on the stream.
func (k *AddScaledGrad) Launch(s *device.Stream) {
	t, n := k.Z.Type, k.Rows*k.C
	if n == 0 || !fits(s, "add_scaled_grad", want{"Z", k.Z, n, t}, want{"A", k.A, k.C, t}, want{"DY", k.DY, n, t},
		want{"DZ", k.DZ, n, t}, want{"DA", k.DA, k.C, device.F32}) {
		return
	}
	work := s.Scratch(k.Scratch())
	if work == nil {
		return
	}
	part := work.Take(device.F32, k.shares()*k.C)
	args := addScaledGradArgs{k.Z.Ptr, k.A.Ptr, k.DY.Ptr, k.DZ.Ptr, part.Ptr, int64(k.Rows), int32(k.C)}
	device.Launch(s, addScaledGradNames[t], device.Grid{X: ceil(k.C, 32), Y: k.shares(), Block: 256}, &args)
	sumShares(s, part, k.DA, k.shares(), k.C, k.Accumulate)
}
