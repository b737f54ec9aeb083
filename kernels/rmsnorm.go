//go:build cuda || gpu

package kernels

import (
	"fmt"

	"headroom/internal/device"
)

// An RMSNorm is Rstd = 1/√(mean(x²) + Eps) and Y = Rstd·x·w for each group of C. With Add, x is X + Add, rounded to its
// type, which goes to Sum (it may alias X or Add). X, Add, Sum, Y [Rows, Groups, C]; W [Groups, C]; Rstd [Rows, Groups]
// in float32, or absent. C up to 2048.
type RMSNorm struct {
	X, Add, Sum, W, Y, Rstd device.Buffer
	Rows, Groups, C         int
	Eps                     float32
}

type rmsNormArgs struct {
	x, add, w, sum, y, rstd device.Ptr
	rows                    int64
	groups, c               int32
	eps                     float32
}

const normWarps = 8 // of a block; each has one row at a time

// normPacks are the kernels there are, by how many times 32 Packs hold a row.
var normPacks = []int{1, 2, 3, 4, 6, 8, 12, 16}

var normNames, normGradNames = byPacks("rms_norm"), byPacks("rms_norm_grad")

func byPacks(name string) (all [17]names) {
	for _, p := range normPacks {
		for t, full := range both(name) {
			all[p][t] = fmt.Sprintf("%s_%d", full, p)
		}
	}
	return all
}

// packs is the smallest of the kernels for rows of c.
func packs(s *device.Stream, kernel string, c int, t device.Type) (int, bool) {
	for _, p := range normPacks {
		if c <= 2048 && c <= 32*p*pack(t) {
			return p, true
		}
	}
	s.Fail(fmt.Errorf("kernels: %s: C up to 2048 is supported, it is %d", kernel, c))
	return 0, false
}

// Launch puts the kernel on the stream.
func (k *RMSNorm) Launch(s *device.Stream) {
	t, n := k.X.Type, k.Rows*k.Groups*k.C
	p, ok := packs(s, "rms_norm", k.C, t)
	if !ok || n == 0 || !fits(s, "rms_norm", want{"X", k.X, n, t}, want{"W", k.W, k.Groups * k.C, t}, want{"Y", k.Y, n, t}) {
		return
	}
	if !k.Add.Nil() && !fits(s, "rms_norm", want{"Add", k.Add, n, t}, want{"Sum", k.Sum, n, t}) {
		return
	}
	if !k.Rstd.Nil() && !fits(s, "rms_norm", want{"Rstd", k.Rstd, k.Rows * k.Groups, device.F32}) {
		return
	}
	args := rmsNormArgs{k.X.Ptr, k.Add.Ptr, k.W.Ptr, k.Sum.Ptr, k.Y.Ptr, k.Rstd.Ptr, int64(k.Rows), int32(k.Groups), int32(k.C), k.Eps}
	device.Launch(s, normNames[p][t], device.Grid{X: ceil(k.Rows*k.Groups, normWarps), Block: 32 * normWarps}, &args)
}

// An RMSNormGrad is dx = r·w·dy - x·r³·Σ(w·dy·x)/C (+ Add) and dw = Σ_rows r·x·dy, with r = Rstd. DX may alias DY or Add;
// DW [Groups, C] is float32. AccumulateDX adds to DX, which is Add = DX; AccumulateDW to DW.
type RMSNormGrad struct {
	X, W, Rstd, DY, Add, DX, DW device.Buffer
	Rows, Groups, C             int
	AccumulateDX, AccumulateDW  bool
}

type rmsNormGradArgs struct {
	x, w, rstd, dy, add, dx, dw device.Ptr
	rows                        int64
	groups, c                   int32
}

// blocks share the rows: two for each multiprocessor of an H200, and a matter of the shape alone.
func (k *RMSNormGrad) blocks() int { return min(ceil(k.Rows, normWarps), 264) }

// Scratch is the bytes that Launch takes from its stream's scratch memory.
func (k *RMSNormGrad) Scratch() int { return k.blocks() * k.Groups * k.C * 4 }

// Launch puts the kernels on the stream.
func (k *RMSNormGrad) Launch(s *device.Stream) {
	t, n, w := k.X.Type, k.Rows*k.Groups*k.C, k.Groups*k.C
	p, ok := packs(s, "rms_norm_grad", k.C, t)
	if !ok || n == 0 || !fits(s, "rms_norm_grad", want{"X", k.X, n, t}, want{"W", k.W, w, t}, want{"Rstd", k.Rstd, k.Rows * k.Groups, device.F32},
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
	args := rmsNormGradArgs{k.X.Ptr, k.W.Ptr, k.Rstd.Ptr, k.DY.Ptr, add.Ptr, k.DX.Ptr, part.Ptr, int64(k.Rows), int32(k.Groups), int32(k.C)}
	device.Launch(s, normGradNames[p][t], device.Grid{X: k.blocks(), Y: k.Groups, Block: 32 * normWarps, Shared: 4 * k.C}, &args)
	sumShares(s, part, k.DW, k.blocks(), w, k.AccumulateDW)
}
