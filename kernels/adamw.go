//go:build gpu

package kernels

import (
	"math"
	"unsafe"

	"headroom/internal/device"
)

// An AdamW is one optimizer step on flat buffers: with g' = Scale·g, clipped to a global norm of Clip, m = β1·m +
// (1-β1)·g', v = β2·v + (1-β2)·g'², w = w - LR·((m/Correct1)/(√(v/Correct2) + Eps) + Decay·w). Only the
// first Decayed elements decay. Copy receives w in bf16, where it is there. Hyper holds an AdamWHyper's Words and is
// read at every launch; Norm [2] receives the norm before clipping, and the factor of the gradients.
//
// Where G is the part of Rank, one of Ranks with as many elements each, Gather brings every rank's partial sums of
// squares [Ranks, n] f64 to all, and the norm is that of the whole.
type AdamW struct {
	W, G, M, V, Copy, Hyper, Norm device.Buffer
	Decayed                       int

	Rank, Ranks int
	Gather      func(s *device.Stream, sums device.Buffer)
}

// AdamWHyper is what changes from step to step. Correct1 and Correct2 are 1-β^step; Clip 0 is none; Scale is 1 over
// the number of micro-batches that the gradients are sums of.
type AdamWHyper struct {
	LR, Beta1, Beta2, Eps, Decay, Correct1, Correct2, Clip, Scale float64
}

// hyper is Hyper in adamw.cu.
type hyper struct{ lr, beta1, beta2, eps, decay, correct1, correct2, clip, scale float32 }

// HyperWords is the length of the Hyper buffer.
const HyperWords = int(unsafe.Sizeof(hyper{}) / 4)

// Words is the content of the Hyper buffer.
func (h AdamWHyper) Words() [HyperWords]float32 {
	return *(*[HyperWords]float32)(unsafe.Pointer(&hyper{
		lr: float32(h.LR), beta1: float32(h.Beta1), beta2: float32(h.Beta2), eps: float32(h.Eps), decay: float32(h.Decay),
		correct1: float32(1 / h.Correct1), correct2: float32(1 / h.Correct2), clip: float32(h.Clip), scale: float32(h.Scale),
	}))
}

// Correct is 1-β^step, the sum of the weights of step moments.
func Correct(beta float64, step int) float64 { return 1 - math.Pow(beta, float64(step)) }

type normArgs struct {
	g                 device.Ptr
	n                 int64
	part, hyper, norm device.Ptr
	blocks            int32
}

type adamwArgs struct {
	w, m, v, g, copy, hyper, norm device.Ptr
	n, decayed                    int64
}

var sumSquaresNames, adamwNames = [2]string{"sum_squares", "sum_squares_any"}, [2]string{"adamw", "adamw_any"}

// normBlocks depends on the shape alone, and is at most eight for each multiprocessor of an H200.
func (k *AdamW) normBlocks() int { return min(max(1, ceil(k.G.N, 4096)), 1056) }

// Scratch is the bytes that Launch takes from its stream's scratch memory.
func (k *AdamW) Scratch() int { return 8 * k.normBlocks() * max(k.Ranks, 1) }

// Launch puts the kernels on the stream.
func (k *AdamW) Launch(s *device.Stream) {
	n := k.W.N
	if n == 0 || !fits(s, "adamw", want{"W", k.W, n, device.F32}, want{"G", k.G, n, device.F32},
		want{"M", k.M, n, device.F32}, want{"V", k.V, n, device.F32},
		want{"Hyper", k.Hyper, HyperWords, device.F32}, want{"Norm", k.Norm, 2, device.F32}) {
		return
	}
	if !k.Copy.Nil() && !fits(s, "adamw", want{"Copy", k.Copy, n, device.BF16}) {
		return
	}
	work := s.Scratch(k.Scratch())
	if work == nil {
		return
	}
	blocks := k.normBlocks()
	sums := work.Take(device.F64, blocks*max(k.Ranks, 1))
	norm := normArgs{k.G.Ptr, int64(n), sums.Slice(k.Rank*blocks, (k.Rank+1)*blocks).Ptr, k.Hyper.Ptr,
		k.Norm.Ptr, int32(blocks)}
	device.Launch(s, sumSquaresNames[anyForm(device.F32, n, k.G)], device.Grid{X: blocks, Block: 256}, &norm)
	if k.Gather != nil {
		k.Gather(s, sums)
		norm.part, norm.blocks = sums.Ptr, int32(sums.N)
	}
	device.Launch(s, "clip_factor", device.Grid{X: 1, Block: 256}, &norm)
	args := adamwArgs{k.W.Ptr, k.M.Ptr, k.V.Ptr, k.G.Ptr, k.Copy.Ptr, k.Hyper.Ptr, k.Norm.Ptr, int64(n), int64(k.Decayed)}
	device.Launch(s, adamwNames[max(anyForm(device.F32, n, k.W, k.G, k.M, k.V), anyForm(device.BF16, n, k.Copy))],
		device.Grid{X: ceil(n, 1024), Block: 256}, &args)
}
