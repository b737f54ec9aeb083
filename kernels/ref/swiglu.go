package ref

// gateWords is the range whose exponentials stay in the first cache.
const gateWords = 2048

// A SwiGLU is y = g·σ(g)·u.
type SwiGLU struct{ Gate, Up, Y []float32 }

// Run executes the kernel on all cores.
func (k *SwiGLU) Run() { parallel(k, len(k.Y), words) }

func (k *SwiGLU) span(w *worker, lo, hi int) {
	for ; lo < hi; lo += gateWords {
		end := min(lo+gateWords, hi)
		e, g := w.floats(end-lo), k.Gate[lo:end]
		vec.exp(e, g, -1, 0)
		vec.gate(k.Y[lo:end], g, k.Up[lo:end], e)
	}
}

// A SwiGLUGrad is dg = dy·u·σ·(1 + g·(1-σ)) and du = dy·g·σ, with σ = σ(g).
type SwiGLUGrad struct{ Gate, Up, DY, DGate, DUp []float32 }

// Run executes the kernel on all cores.
func (k *SwiGLUGrad) Run() { parallel(k, len(k.DY), words) }

func (k *SwiGLUGrad) span(w *worker, lo, hi int) {
	for ; lo < hi; lo += gateWords {
		end := min(lo+gateWords, hi)
		e, g := w.floats(end-lo), k.Gate[lo:end]
		vec.exp(e, g, -1, 0)
		vec.dgate(k.DGate[lo:end], k.DUp[lo:end], g, k.Up[lo:end], k.DY[lo:end], e)
	}
}
