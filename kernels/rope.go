//go:build gpu

package kernels

import (
	"fmt"
	"math"

	"headroom/internal/device"
	"headroom/kernels/ref"
)

// A Rope rotates the last R of each head's D by the position t and copies the rest, or leaves it where Y is X:
// with the halves x1, x2 and θ_i = t·Frequency(i, R), y1 = x1·cos θ - x2·sin θ and y2 = x2·cos θ + x1·sin θ.
// Inverse rotates back. X, Y [B, T, Heads, D]; Table holds RopeTable(T, R, rotary).
type Rope struct {
	X, Y, Table       device.Buffer
	B, T, Heads, D, R int
	Inverse           bool
}

// RopeTable is the cosine and sine of each position and pair: [T, R/2, 2].
func RopeTable(T, R int, rotary ref.Rotary) []float32 {
	table := make([]float32, T*R)
	for i := range T * R / 2 {
		sin, cos := math.Sincos(float64(i/(R/2)) * rotary.Frequency(i%(R/2), R))
		table[2*i], table[2*i+1] = float32(cos), float32(sin)
	}
	return table
}

type ropeArgs struct {
	x, y, table    device.Ptr
	rows           int64
	heads, t, d, r int32
	inverse        int32
}

var ropeNames = forms("rope")

// Launch puts the kernel on the stream.
func (k *Rope) Launch(s *device.Stream) {
	t, rows := k.X.Type, k.B*k.T*k.Heads
	if k.R%2 != 0 || k.R > k.D {
		s.Fail(fmt.Errorf("kernels: rope: R must be even and at most D: R %d, D %d", k.R, k.D))
	}
	if rows == 0 || !fits(s, "rope", want{"X", k.X, rows * k.D, t}, want{"Y", k.Y, rows * k.D, t},
		want{"Table", k.Table, k.T * k.R, device.F32}) {
		return
	}
	any, n := max(anyForm(t, k.R/2, k.X, k.Y), anyForm(t, k.D)), pack(t)
	if any == 1 {
		n = 1
	}
	chunks := k.R / 2 / n
	if k.X.Ptr != k.Y.Ptr {
		chunks += (k.D - k.R) / n
	}
	if chunks > 0 {
		args := ropeArgs{k.X.Ptr, k.Y.Ptr, k.Table.Ptr, int64(rows), int32(k.Heads), int32(k.T), int32(k.D),
			int32(k.R), flag(k.Inverse)}
		device.Launch(s, ropeNames[any][t], device.Grid{X: ceil(rows*chunks, 256), Block: 256}, &args)
	}
}
