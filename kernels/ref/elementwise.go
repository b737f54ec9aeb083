package ref

const words = 8192 // of one range of an elementwise kernel

// An Add is Out = X + Y. Out may alias X or Y.
type Add struct{ X, Y, Out []float32 }

// Run executes the kernel on all cores.
func (k *Add) Run() { parallel(k, len(k.Out), words) }

func (k *Add) span(_ *worker, lo, hi int) { vec.add(k.Out[lo:hi], k.X[lo:hi], k.Y[lo:hi]) }

// A ColSum is Y[n] = Σ_rows X[row, n]. Accumulate adds to Y.
type ColSum struct {
	X, Y       []float32
	Rows, N    int
	Accumulate bool
}

// Run executes the kernel on all cores.
func (k *ColSum) Run() { parallel(k, k.N, 64) }

func (k *ColSum) span(_ *worker, lo, hi int) {
	y := k.Y[lo:hi]
	if !k.Accumulate {
		clear(y)
	}
	for r := range k.Rows {
		vec.add(y, y, k.X[r*k.N+lo:r*k.N+hi])
	}
}

// A SumSquares is Out[0] = Σ X², in float64 and in a fixed order.
type SumSquares struct {
	X    []float32
	Out  []float64
	part []float64
}

// Run executes the kernel on all cores.
func (k *SumSquares) Run() {
	if n := (len(k.X) + words - 1) / words; len(k.part) != n {
		k.part = make([]float64, n)
	}
	parallel(k, len(k.X), words)
	k.Out[0] = 0
	for _, s := range k.part {
		k.Out[0] += s
	}
}

func (k *SumSquares) span(_ *worker, lo, hi int) {
	for ; lo < hi; lo += words {
		k.part[lo/words] = vec.squares(k.X[lo:min(lo+words, hi)])
	}
}
