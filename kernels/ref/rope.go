package ref

import (
	"math"
	"sync"
)

// A Rope rotates the last R words of each head's D by the position t and copies the rest: with the halves x1, x2 and
// θ_i = t·Frequency(i, R), y1 = x1·cos θ - x2·sin θ and y2 = x2·cos θ + x1·sin θ. Inverse rotates back.
// X, Y [B, T, Heads, D]; Y may alias X.
type Rope struct {
	X, Y              []float32
	B, T, Heads, D, R int
	Rotary            Rotary
	Inverse           bool

	table *rotations
}

// rotations are the cosines and sines [T, R/2] of all positions.
type rotations struct{ cos, sin []float32 }

type rotationsKey struct {
	T, R   int
	Rotary Rotary
}

// tables holds the rotations by shape, since the layers of a model share them.
var tables sync.Map

func rotationsOf(T, R int, rotary Rotary) *rotations {
	key := rotationsKey{T, R, rotary}
	if t, ok := tables.Load(key); ok {
		return t.(*rotations)
	}
	h := R / 2
	t := &rotations{aligned(T * h), aligned(T * h)}
	for i := range T * h {
		sin, cos := math.Sincos(float64(i/h) * rotary.Frequency(i%h, R))
		t.sin[i], t.cos[i] = float32(sin), float32(cos)
	}
	tables.Store(key, t)
	return t
}

// Run executes the kernel on all cores.
func (k *Rope) Run() {
	if k.table == nil {
		k.table = rotationsOf(k.T, k.R, k.Rotary)
	}
	parallel(k, k.B*k.T, 64)
}

func (k *Rope) span(_ *worker, lo, hi int) {
	h, keep, sign := k.R/2, k.D-k.R, float32(1)
	if k.Inverse {
		sign = -1
	}
	for row := lo; row < hi; row++ {
		t := row % k.T
		cos, sin := k.table.cos[t*h:(t+1)*h], k.table.sin[t*h:(t+1)*h]
		for i := row * k.Heads * k.D; i < (row+1)*k.Heads*k.D; i += k.D {
			x, y := k.X[i:i+k.D], k.Y[i:i+k.D]
			copy(y[:keep], x)
			vec.rotate(y[keep:], x[keep:], cos, sin, sign)
		}
	}
}
