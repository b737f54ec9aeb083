package ref

import "math"

// An AdamW is one step with decoupled decay over flat buffers, with g' = Scale·g:
// m = β1·m + (1-β1)·g', v = β2·v + (1-β2)·g'², w = w - LR·((m/Correct1)/(√(v/Correct2) + Eps) + Decay·w).
// Only the first Decayed words decay. Hyper is read at every Run.
type AdamW struct {
	W, G, M, V []float32
	Decayed    int
	Hyper      AdamWHyper

	step adamwStep
}

// AdamWHyper is what changes from step to step; Scale carries clipping, Correct1 and Correct2 are 1-β^step.
type AdamWHyper struct {
	LR, Beta1, Beta2, Eps, Decay, Scale, Correct1, Correct2 float64
}

// adamwStep holds the constants of one step: lr = LR/Correct1 and root = 1/√Correct2.
type adamwStep struct {
	lr, beta1, beta1c, beta2, beta2c, eps, scale, root, keep float32
}

// Run executes the kernel on all cores.
func (k *AdamW) Run() {
	h := &k.Hyper
	k.step = adamwStep{
		lr: float32(h.LR / h.Correct1), root: float32(1 / math.Sqrt(h.Correct2)), eps: float32(h.Eps),
		scale: float32(h.Scale),
		beta1: float32(h.Beta1), beta1c: float32(1 - h.Beta1), beta2: float32(h.Beta2), beta2c: float32(1 - h.Beta2),
		keep: float32(1 - h.LR*h.Decay),
	}
	parallel(k, len(k.W), words)
}

func (k *AdamW) span(_ *worker, lo, hi int) {
	mid := min(max(k.Decayed, lo), hi)
	vec.adamw(k.W[lo:mid], k.G[lo:mid], k.M[lo:mid], k.V[lo:mid], &k.step, k.step.keep)
	vec.adamw(k.W[mid:hi], k.G[mid:hi], k.M[mid:hi], k.V[mid:hi], &k.step, 1)
}
