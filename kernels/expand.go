//go:build gpu

package kernels

import (
	"math/bits"

	"headroom/internal/device"
)

// An Expand is Y = Scale·A·B of each row, small products of factors: A [Rows, H, R] and B [Rows, R, D], whose rows lie
// LdA and LdB apart, or side by side where these are 0; Y [Rows, H, D].
type Expand struct {
	A, B, Y                 device.Buffer
	Rows, H, R, D, LdA, LdB int
	Scale                   float32
}

type expandArgs struct {
	a, b, y           device.Ptr
	rows              int64
	h, r, d, ldA, ldB int32
	scale             float32
}

var (
	expandNames, expandGradNames           = both("expand"), both("expand_grad")
	expandPacksNames, expandGradPacksNames = both("expand_packs"), both("expand_grad_packs")
)

// Launch puts the kernel on the stream.
func (k *Expand) Launch(s *device.Stream) {
	t, n, ldA, ldB := k.Y.Type, k.Rows*k.H*k.D, k.LdA, k.LdB
	if ldA == 0 {
		ldA = k.H * k.R
	}
	if ldB == 0 {
		ldB = k.R * k.D
	}
	if n > 0 && fits(s, "expand", want{"A", k.A, (k.Rows-1)*ldA + k.H*k.R, t}, want{"B", k.B, (k.Rows-1)*ldB + k.R*k.D, t},
		want{"Y", k.Y, n, t}) {
		args := expandArgs{k.A.Ptr, k.B.Ptr, k.Y.Ptr, int64(k.Rows), int32(k.H), int32(k.R), int32(k.D), int32(ldA),
			int32(ldB), k.Scale}
		if k.R <= mostRanks && anyForm(t, k.D|ldB, k.B, k.Y) == 0 {
			device.Launch(s, expandPacksNames[t], device.Grid{X: ceil(k.Rows*(k.D/pack(t)), 256), Block: 256}, &args)
			return
		}
		device.Launch(s, expandNames[t], device.Grid{X: ceil(n, 256), Block: 256}, &args)
	}
}

// mostRanks are the factors that a thread of the fast kernels keeps.
const mostRanks = 8

// An ExpandGrad is DA = Scale·DY·Bᵀ and DB = Scale·Aᵀ·DY of each row, of Expand's shapes side by side.
type ExpandGrad struct {
	A, B, DY, DA, DB device.Buffer
	Rows, H, R, D    int
	Scale            float32
}

type expandGradArgs struct {
	a, b, dy, da, db device.Ptr
	rows             int64
	h, r, d          int32
	scale            float32
}

// Launch puts the kernel on the stream.
func (k *ExpandGrad) Launch(s *device.Stream) {
	t, heads, columns := k.DY.Type, k.Rows*k.H*k.R, k.Rows*k.R*k.D
	if k.Rows > 0 && fits(s, "expand_grad", want{"A", k.A, heads, t}, want{"B", k.B, columns, t},
		want{"DY", k.DY, k.Rows * k.H * k.D, t}, want{"DA", k.DA, heads, t}, want{"DB", k.DB, columns, t}) {
		args := expandGradArgs{k.A.Ptr, k.B.Ptr, k.DY.Ptr, k.DA.Ptr, k.DB.Ptr, int64(k.Rows), int32(k.H), int32(k.R),
			int32(k.D), k.Scale}
		packs := k.D / pack(t)
		if k.R <= mostRanks && packs <= 32 && anyForm(t, k.D, k.B, k.DY, k.DB) == 0 {
			lanes := 1 << bits.Len(uint(packs-1)) // of a row: a power of two
			device.Launch(s, expandGradPacksNames[t], device.Grid{X: ceil(k.Rows*lanes, 256), Block: 256}, &args)
			return
		}
		device.Launch(s, expandGradNames[t], device.Grid{X: ceil(heads+columns, 256), Block: 256}, &args)
	}
}
