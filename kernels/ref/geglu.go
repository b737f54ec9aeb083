package ref

// The tanh form of GELU, as PyTorch's approximate="tanh": g/2·(1 + tanh u) with u = √(2/π)·(g + 0.044715·g³), which is
// g·σ(2u).
const (
	geluRoot = 0.7978845608028654 // √(2/π)
	geluCube = 0.044715
)

// A GeGLU is y = gelu(g)·u, with the tanh form of GELU.
type GeGLU struct{ Gate, Up, Y []float32 }

// Run executes the kernel on all cores.
func (k *GeGLU) Run() { parallel(k, len(k.Y), words) }

func (k *GeGLU) span(w *worker, lo, hi int) {
	for ; lo < hi; lo += gateWords {
		end := min(lo+gateWords, hi)
		e, g := w.floats(end-lo), k.Gate[lo:end]
		geluExp(e, g)
		vec.gate(k.Y[lo:end], g, k.Up[lo:end], e)
	}
}

// geluExp is e^(-2u) of each g, by which σ(2u) is 1/(1+e).
func geluExp(e, g []float32) {
	for i, x := range g {
		e[i] = 2 * geluRoot * (x + geluCube*x*x*x)
	}
	vec.exp(e, e, -1, 0)
}

// A GeGLUGrad is dg = dy·up·(σ + g·σ·(1-σ)·2u') and dup = dy·g·σ, with σ = σ(2u).
type GeGLUGrad struct{ Gate, Up, DY, DGate, DUp []float32 }

// Run executes the kernel on all cores.
func (k *GeGLUGrad) Run() { parallel(k, len(k.DY), words) }

func (k *GeGLUGrad) span(w *worker, lo, hi int) {
	for ; lo < hi; lo += gateWords {
		end := min(lo+gateWords, hi)
		e := w.floats(end - lo)
		geluExp(e, k.Gate[lo:end])
		for i, x := range e {
			g, up, dy := k.Gate[lo+i], k.Up[lo+i], k.DY[lo+i]
			s, slope := 1/(1+x), 2*geluRoot*(1+3*geluCube*g*g)
			rise := float32(0) // of σ: s·(1-s), where an infinite e stays out of it
			if s > 0 {
				rise = s * (x * s)
			}
			k.DGate[lo+i], k.DUp[lo+i] = dy*up*(s+g*rise*slope), dy*g*s
		}
	}
}
