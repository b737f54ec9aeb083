//go:build gpu

package kernels

import (
	"fmt"

	"headroom/internal/device"
)

// An RMSNorm is Rstd = 1/√(mean(x²) + Eps) and Y = Rstd·x·w for each group of C. With Add, x is X + Add, rounded
// to its type, which goes to Sum (it may alias X or Add). X, Add, Sum, Y [Rows, Groups, C]; W [Groups, C]; Rstd [Rows,
// Groups] in float32, or absent. C up to 4096 in bf16, 2048 in float32.
type RMSNorm struct {
	X, Add, Sum, W, Y, Rstd device.Buffer
	Rows, Groups, C         int
	Eps                     float32
}

type rmsNormArgs struct {
	x, add, w, sum, y, rstd device.Ptr
	rows                    int64
	groups, c, warps        int32
	eps                     float32
}

var normNames, normGradNames = forms("rms_norm"), forms("rms_norm_grad")

// A normGrid is how rows of C fall on blocks: warps for each row, and as many rows at a time as fit in eight warps.
type normGrid struct{ warps, rows int }

const normAhead = 4 // how many rows a thread of the backward pass has under way

func newNormGrid(c int, t device.Type) normGrid {
	warps := ceil(c, 32*pack(t))
	return normGrid{warps, max(1, 8/warps)}
}

func (g normGrid) threads() int { return 32 * g.warps * g.rows }

// blocks share n rows: about as many as an H200 holds at a time, 1024 threads a multiprocessor. It is a matter of the
// shape alone, for the order of sums hangs on it.
func (g normGrid) blocks(n int) int { return min(ceil(n, g.rows), 132*max(1, 1024/g.threads())) }

// NormMost is the most columns that are normed as one: what a block of 512 threads holds.
func NormMost(t device.Type) int { return 512 * pack(t) }

// fitsNorm reports rows of more.
func fitsNorm(s *device.Stream, kernel string, c int, t device.Type) bool {
	if widest := NormMost(t); c > widest {
		s.Fail(fmt.Errorf("kernels: %s: C up to %d is supported in %v, it is %d", kernel, widest, t, c))
		return false
	}
	return true
}

// Launch puts the kernel on the stream.
func (k *RMSNorm) Launch(s *device.Stream) {
	t, n := k.X.Type, k.Rows*k.Groups*k.C
	if n == 0 || !fitsNorm(s, "rms_norm", k.C, t) ||
		!fits(s, "rms_norm", want{"X", k.X, n, t}, want{"W", k.W, k.Groups * k.C, t}, want{"Y", k.Y, n, t}) {
		return
	}
	if !k.Add.Nil() && !fits(s, "rms_norm", want{"Add", k.Add, n, t}, want{"Sum", k.Sum, n, t}) {
		return
	}
	if !k.Rstd.Nil() && !fits(s, "rms_norm", want{"Rstd", k.Rstd, k.Rows * k.Groups, device.F32}) {
		return
	}
	grid := newNormGrid(k.C, t)
	args := rmsNormArgs{k.X.Ptr, k.Add.Ptr, k.W.Ptr, k.Sum.Ptr, k.Y.Ptr, k.Rstd.Ptr, int64(k.Rows), int32(k.Groups),
		int32(k.C), int32(grid.warps), k.Eps}
	device.Launch(s, normNames.of(t, k.C, k.X, k.Add, k.Sum, k.W, k.Y), device.Grid{X: ceil(k.Rows*k.Groups, grid.rows),
		Block: grid.threads()}, &args)
}

// An RMSNormGrad is dx = r·w·dy - x·r³·Σ(w·dy·x)/C (+ Add) and dw = Σ_rows r·x·dy, with r = Rstd. DX may
// alias DY or Add; DW [Groups, C] is float32. AccumulateDX adds to DX, which is Add = DX; AccumulateDW to DW.
type RMSNormGrad struct {
	X, W, Rstd, DY, Add, DX, DW device.Buffer
	Rows, Groups, C             int
	AccumulateDX, AccumulateDW  bool
}

type rmsNormGradArgs struct {
	x, w, rstd, dy, add, dx, dw device.Ptr
	rows                        int64
	groups, c, warps            int32
}

func (k *RMSNormGrad) blocks() int { return newNormGrid(k.C, k.X.Type).blocks(k.Rows) }

// Scratch is the bytes that Launch takes from its stream's scratch memory.
func (k *RMSNormGrad) Scratch() int { return k.blocks() * k.Groups * k.C * 4 }

// Launch puts the kernels on the stream.
func (k *RMSNormGrad) Launch(s *device.Stream) {
	t, n, w := k.X.Type, k.Rows*k.Groups*k.C, k.Groups*k.C
	if n == 0 || !fitsNorm(s, "rms_norm_grad", k.C, t) || !fits(s, "rms_norm_grad", want{"X", k.X, n, t},
		want{"W", k.W, w, t}, want{"Rstd", k.Rstd, k.Rows * k.Groups, device.F32},
		want{"DY", k.DY, n, t}, want{"DX", k.DX, n, t}, want{"DW", k.DW, w, device.F32}) {
		return
	}
	add := k.Add
	if k.AccumulateDX {
		add = k.DX
	}
	if !add.Nil() && !fits(s, "rms_norm_grad", want{"Add", add, n, t}) {
		return
	}
	work := s.Scratch(k.Scratch())
	if work == nil {
		return
	}
	part := work.Take(device.F32, k.blocks()*w)
	grid := newNormGrid(k.C, t)
	args := rmsNormGradArgs{k.X.Ptr, k.W.Ptr, k.Rstd.Ptr, k.DY.Ptr, add.Ptr, k.DX.Ptr, part.Ptr, int64(k.Rows),
		int32(k.Groups), int32(k.C), int32(grid.warps)}
	device.Launch(s, normGradNames.of(t, k.C, k.X, k.W, k.DY, add, k.DX),
		device.Grid{X: k.blocks(), Y: k.Groups, Block: grid.threads(), Shared: normAhead * (3*16 + 4) * grid.threads()},
		&args)
	sumShares(s, part, k.DW, k.blocks(), w, k.AccumulateDW)
}
