package ref

// A Repeat is Y[r, t, i] = Scale·X[r, i]: X [Rows, Inner], Y [Rows, Times, Inner]. With Times of 1,
// Y may be X.
type Repeat struct {
	X, Y               []float32
	Rows, Times, Inner int
	Scale              float32
}

// Run executes the kernel on all cores.
func (k *Repeat) Run() { parallel(k, k.Rows*k.Times, 1+words/k.Inner) }

func (k *Repeat) span(_ *worker, lo, hi int) {
	for i := lo; i < hi; i++ {
		y := k.Y[i*k.Inner:][:k.Inner]
		copy(y, k.X[i/k.Times*k.Inner:])
		if k.Scale != 1 {
			vec.scale(y, k.Scale)
		}
	}
}

// A Fold is Y[r, i] = Scale·Σ_t X[r, t, i]: X [Rows, Times, Inner], Y [Rows, Inner].
type Fold struct {
	X, Y               []float32
	Rows, Times, Inner int
	Scale              float32
}

// Run executes the kernel on all cores.
func (k *Fold) Run() { parallel(k, k.Rows, 1+words/(k.Times*k.Inner)) }

func (k *Fold) span(_ *worker, lo, hi int) {
	for r := lo; r < hi; r++ {
		y := k.Y[r*k.Inner:][:k.Inner]
		copy(y, k.X[r*k.Times*k.Inner:])
		for t := 1; t < k.Times; t++ {
			vec.add(y, y, k.X[(r*k.Times+t)*k.Inner:][:k.Inner])
		}
		if k.Scale != 1 {
			vec.scale(y, k.Scale)
		}
	}
}
