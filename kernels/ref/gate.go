package ref

// A Gate is y = o·σ(g), where a word of G gates Per words of O that follow one another. Y may alias O.
type Gate struct {
	O, G, Y []float32
	Per     int
}

// Run executes the kernel on all cores.
func (k *Gate) Run() { parallel(k, len(k.G), max(1, words/k.Per)) }

func (k *Gate) span(w *worker, lo, hi int) {
	for ; lo < hi; lo += gateWords {
		end := min(lo+gateWords, hi)
		e := w.floats(end - lo)
		vec.exp(e, k.G[lo:end], -1, 0)
		if k.Per == 1 {
			vec.open(k.Y[lo:end], k.O[lo:end], e)
			continue
		}
		for i, x := range e {
			y := k.Y[(lo+i)*k.Per:][:k.Per]
			copy(y, k.O[(lo+i)*k.Per:])
			vec.scale(y, 1/(1+x))
		}
	}
}

// A GateGrad is do = dy·σ and dg = σ·(1-σ)·Σ dy·o over the words that g gates, with σ = σ(g).
type GateGrad struct {
	O, G, DY, DO, DG []float32
	Per              int
}

// Run executes the kernel on all cores.
func (k *GateGrad) Run() { parallel(k, len(k.G), max(1, words/k.Per)) }

func (k *GateGrad) span(w *worker, lo, hi int) {
	for ; lo < hi; lo += gateWords {
		end := min(lo+gateWords, hi)
		e := w.floats(end - lo)
		vec.exp(e, k.G[lo:end], -1, 0)
		if k.Per == 1 {
			vec.dopen(k.DO[lo:end], k.DG[lo:end], k.O[lo:end], k.DY[lo:end], e)
			continue
		}
		for i, x := range e {
			at, s := (lo+i)*k.Per, 1/(1+x)
			dy, do := k.DY[at:][:k.Per], k.DO[at:][:k.Per]
			k.DG[lo+i] = vec.dot(dy, k.O[at:][:k.Per]) * s * (1 - s)
			copy(do, dy)
			vec.scale(do, s)
		}
	}
}
