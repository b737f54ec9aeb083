package ref

import "math"

// A Classifier is the loss over logits z = X·Wᵀ, computed in chunks of rows: NLL[i] = logsumexp(z_i) - z_i[target],
// 0 where the target is negative; Loss[0] = mean NLL over the other rows (+ ZLoss·mean logsumexp²).
// With DX also the gradients of Loss[0]: DX [N,C], DW [V,C]; Accumulate adds to DW. X [N,C]; W [V,C].
type Classifier struct {
	X, W       []float32
	Targets    []int32
	N, C, V    int
	ZLoss      float32
	NLL, Loss  []float32
	DX, DW     []float32
	Accumulate bool
	Chunk      int // rows of logits in memory; 0 chooses

	logits []float32 // [Chunk, V], overwritten by their gradients
	lse    []float32 // [Chunk]
	zero   int       // first row of the chunk
	inv    float32   // 1 / targets that count

	forward, dx, dw Gemm
}

// bind takes the memory of one chunk: about 16 MB of logits, at least 256 rows, so that adding to DW stays rare.
func (k *Classifier) bind() {
	if k.Chunk == 0 {
		k.Chunk = max(256, (4<<20)/k.V)
	}
	k.Chunk = min(k.Chunk, k.N)
	k.logits, k.lse = aligned(k.Chunk*k.V), aligned(k.Chunk)
}

// Run executes the kernel on all cores.
func (k *Classifier) Run() {
	if k.logits == nil {
		k.bind()
	}
	count := 0
	for _, t := range k.Targets[:k.N] {
		if t >= 0 {
			count++
		}
	}
	k.inv = 1 / float32(max(count, 1))
	var loss, squares float64
	for k.zero = 0; k.zero < k.N; k.zero += k.Chunk {
		n := min(k.Chunk, k.N-k.zero)
		k.forward = Gemm{TransB: true, M: n, N: k.V, K: k.C, A: k.X[k.zero*k.C:], Lda: k.C, B: k.W, Ldb: k.C,
			C: k.logits, Ldc: k.V, Batch: 1}
		k.forward.Run()
		parallel(k, n, max(1, 4096/k.V))
		if k.DX != nil {
			k.backward(n)
		}
		for r := range n {
			loss += float64(k.NLL[k.zero+r])
			if k.Targets[k.zero+r] >= 0 {
				squares += float64(k.lse[r]) * float64(k.lse[r])
			}
		}
	}
	k.Loss[0] = float32((loss + float64(k.ZLoss)*squares) / float64(max(count, 1)))
}

func (k *Classifier) backward(n int) {
	k.dx = Gemm{M: n, N: k.C, K: k.V, A: k.logits, Lda: k.V, B: k.W, Ldb: k.C, C: k.DX[k.zero*k.C:], Ldc: k.C, Batch: 1}
	k.dx.Run()
	k.dw = Gemm{
		TransA: true, M: k.V, N: k.C, K: n, A: k.logits, Lda: k.V, B: k.X[k.zero*k.C:], Ldb: k.C, C: k.DW, Ldc: k.C, Batch: 1,
		Accumulate: k.Accumulate || k.zero > 0,
	}
	k.dw.Run()
}

// span turns rows of logits into losses and, where asked, into their own gradients p·(1 + 2·ZLoss·lse) - onehot,
// over the count.
func (k *Classifier) span(w *worker, lo, hi int) {
	for r := lo; r < hi; r++ {
		z, t := k.logits[r*k.V:(r+1)*k.V], k.Targets[k.zero+r]
		if t < 0 {
			k.NLL[k.zero+r] = 0
			clear(z)
			continue
		}
		picked, top := z[t], vec.max(z)
		sum := vec.exp(z, z, 1, -top)
		k.lse[r] = top + float32(math.Log(float64(sum)))
		k.NLL[k.zero+r] = k.lse[r] - picked
		if k.DX != nil {
			vec.scale(z, k.inv*(1+2*k.ZLoss*k.lse[r])/sum)
			z[t] -= k.inv
		}
	}
}
