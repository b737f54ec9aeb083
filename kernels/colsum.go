//go:build gpu

package kernels

import "headroom/internal/device"

// A ColSum is Y[n] = Σ_rows X[row, n], Y in float32. Accumulate adds to Y.
type ColSum struct {
	X, Y       device.Buffer
	Rows, N    int
	Accumulate bool
}

type colSumArgs struct {
	x, part device.Ptr
	rows    int64
	n       int32
}

type sharesArgs struct {
	part, y               device.Ptr
	shares, n, accumulate int32
}

var colSumNames = forms("col_sum")

// shares is the number of blocks that share the rows: enough to fill a GPU, and dependent on the shape alone.
func (k *ColSum) shares() int {
	across := ceil(k.N, 32*pack(k.X.Type))
	return max(1, min(ceil(k.Rows, 64), 1024/across))
}

// Scratch is the bytes that Launch takes from its stream's scratch memory.
func (k *ColSum) Scratch() int { return k.shares() * k.N * 4 }

// Launch puts the kernels on the stream.
func (k *ColSum) Launch(s *device.Stream) {
	t := k.X.Type
	if k.N == 0 || !fits(s, "col_sum", want{"X", k.X, k.Rows * k.N, t}, want{"Y", k.Y, k.N, device.F32}) {
		return
	}
	work := s.Scratch(k.Scratch())
	if work == nil {
		return
	}
	part := work.Take(device.F32, k.shares()*k.N)
	args := colSumArgs{k.X.Ptr, part.Ptr, int64(k.Rows), int32(k.N)}
	device.Launch(s, colSumNames.of(t, k.N, k.X), device.Grid{X: ceil(k.N, 32*pack(t)), Y: k.shares(), Block: 256}, &args)
	sumShares(s, part, k.Y, k.shares(), k.N, k.Accumulate)
}

// sumShares puts y[n] = Σ part[share, n] on the stream.
func sumShares(s *device.Stream, part, y device.Buffer, shares, n int, accumulate bool) {
	args := sharesArgs{part.Ptr, y.Ptr, int32(shares), int32(n), flag(accumulate)}
	device.Launch(s, "sum_shares", device.Grid{X: ceil(n, 32), Block: 1024}, &args)
}
