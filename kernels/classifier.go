//go:build gpu

package kernels

import "headroom/internal/device"

// A Classifier is the loss over logits z = X·Wᵀ, computed in chunks of rows: NLL[i] = logsumexp(z_i) - z_i[target],
// 0 where the target is negative; Loss[0] = mean NLL over the other rows (+ ZLoss·mean logsumexp²). With DX also the
// gradients of Scale·Loss[0]: DX [N,C], DW [V,C] in float32, which Accumulate adds to; the gradient of a chunk's
// logits takes their place. X [N,C]; W [V,C]; Targets [N] int32; NLL [N] and Loss [1] float32.
type Classifier struct {
	X, W, Targets, NLL, Loss, DX, DW device.Buffer
	N, C, V                          int
	ZLoss, Scale                     float32 // Scale 0 is 1
	Accumulate                       bool
	Chunk                            int // rows of logits in memory; 0 chooses
}

type classifierArgs struct {
	logits, targets, nll, lse, weight device.Ptr
	scale, zloss                      float32
	v, stride                         int32
}

type lossArgs struct {
	targets, nll, lse, weight, loss device.Ptr
	n                               int32
	zloss                           float32
}

var classifierNames = both("classifier")

// chunk is the rows of logits in memory: as many as fit in 2 GiB, so that adding to DW stays rare, in equal parts.
func (k *Classifier) chunk() int {
	rows := k.Chunk
	if rows == 0 {
		rows = max(256, (2<<30)/(k.stride()*k.X.Type.Size()))
	}
	parts := ceil(k.N, min(rows, k.N))
	return min(k.N, ceil(ceil(k.N, parts), 64)*64)
}

// stride is from one row of logits to the next: rows start on 128 bytes whatever the vocabulary.
func (k *Classifier) stride() int { return ceil(k.V, 64) * 64 }

// Scratch is the bytes that Launch takes from its stream's scratch memory.
func (k *Classifier) Scratch() int {
	return k.chunk()*k.stride()*k.X.Type.Size() + 4*k.N + 3*256
}

// work is the memory of one chunk's logits, and of the rows' sums for the mean.
func (k *Classifier) work(s *device.Stream) (logits, lse, weight device.Buffer, ok bool) {
	work := s.Scratch(k.Scratch())
	if work == nil {
		return logits, lse, weight, false
	}
	return work.Take(k.X.Type, k.chunk()*k.stride()), work.Take(device.F32, k.N), work.Take(device.F32, 1), true
}

// Launch puts the kernels on the stream.
func (k *Classifier) Launch(s *device.Stream) {
	t := k.X.Type
	if k.N == 0 || !fits(s, "classifier", want{"X", k.X, k.N * k.C, t}, want{"W", k.W, k.V * k.C, t},
		want{"Targets", k.Targets, k.N, device.I32},
		want{"NLL", k.NLL, k.N, device.F32}, want{"Loss", k.Loss, 1, device.F32}) {
		return
	}
	if !k.DX.Nil() && !fits(s, "classifier", want{"DX", k.DX, k.N * k.C, t}, want{"DW", k.DW, k.V * k.C, device.F32}) {
		return
	}
	logits, lse, weight, ok := k.work(s)
	if !ok {
		return
	}
	loss := lossArgs{k.Targets.Ptr, k.NLL.Ptr, lse.Ptr, weight.Ptr, k.Loss.Ptr, int32(k.N), k.ZLoss}
	device.Launch(s, "loss_weight", device.Grid{X: 1, Block: 1024}, &loss)
	for row := 0; row < k.N; row += k.chunk() {
		k.rows(s, row, min(k.chunk(), k.N-row), logits, lse, weight)
	}
	device.Launch(s, "loss_mean", device.Grid{X: 1, Block: 1024}, &loss)
}

// rows does n rows from row: their logits, loss, and gradients.
func (k *Classifier) rows(s *device.Stream, row, n int, logits, lse, weight device.Buffer) {
	forward, dx, dw := k.products(row, n, logits)
	forward.Launch(s)
	args := classifierArgs{logits.Ptr, k.Targets.At(row), k.NLL.At(row), lse.At(row), 0, k.Scale, k.ZLoss,
		int32(k.V), int32(k.stride())}
	if k.Scale == 0 {
		args.scale = 1
	}
	if !k.DX.Nil() {
		args.weight = weight.Ptr
	}
	launchClassifier(s, k.X.Type, n, &args)
	if !k.DX.Nil() {
		dx.Launch(s)
		dw.Launch(s)
	}
}

const classifierBlocks = 4 // that share a wide row

// launchClassifier takes the kernel for wide rows where it runs: a cluster of four holds a row in shared memory. It is
// in the machine code for Hopper alone: elsewhere, on newer GPUs too, the portable code has no body for it.
func launchClassifier(s *device.Stream, t device.Type, rows int, args *classifierArgs) {
	quarter := ceil(int(args.v), classifierBlocks*64) * 64
	if d := s.Device(); t == device.BF16 && args.v >= 16384 && d.Compute == 90 && 2*quarter <= 216<<10 {
		device.Launch(s, "classifier_wide_bf16", device.Grid{X: classifierBlocks * rows, Block: 256, Shared: 2 * quarter,
			Cluster: classifierBlocks}, args)
		return
	}
	device.Launch(s, classifierNames[t], device.Grid{X: rows, Block: 1024}, args)
}

// products are the three products of n rows from row. The last two read the gradient of the logits.
func (k *Classifier) products(row, n int, logits device.Buffer) (forward, dx, dw Gemm) {
	x := k.X.Slice(row*k.C, (row+n)*k.C)
	forward = Gemm{TransB: true, M: n, N: k.V, K: k.C, A: x, Lda: k.C, B: k.W, Ldb: k.C, C: logits, Ldc: k.stride()}
	if k.DX.Nil() {
		return forward, dx, dw
	}
	dx = Gemm{M: n, N: k.C, K: k.V, A: logits, Lda: k.stride(), B: k.W, Ldb: k.C,
		C: k.DX.Slice(row*k.C, (row+n)*k.C), Ldc: k.C}
	dw = Gemm{
		TransA: true, M: k.V, N: k.C, K: n, A: logits, Lda: k.stride(), B: x, Ldb: k.C, C: k.DW, Ldc: k.C,
		Accumulate: k.Accumulate || row > 0,
	}
	return forward, dx, dw
}

// Tune times cuBLASLt's algorithms for the products of this shape. It overwrites DX and DW.
func (k *Classifier) Tune(s *device.Stream) error {
	logits, _, _, ok := k.work(s)
	if !ok {
		return s.Sync()
	}
	for row := 0; row < k.N; row += k.chunk() {
		forward, dx, dw := k.products(row, min(k.chunk(), k.N-row), logits)
		for _, product := range []*Gemm{&forward, &dx, &dw} {
			if product.M == 0 {
				continue
			}
			if _, err := product.Tune(s, true); err != nil {
				return err
			}
		}
	}
	return nil
}
