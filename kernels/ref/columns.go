package ref

// A Columns copies the first columns of rows of From words to rows of To words, and puts zeros behind them.
type Columns struct {
	X, Y     []float32
	From, To int
}

// Run executes the kernel on all cores.
func (k *Columns) Run() { parallel(k, len(k.Y)/k.To, max(1, words/k.To)) }

func (k *Columns) span(_ *worker, lo, hi int) {
	for r := lo; r < hi; r++ {
		y := k.Y[r*k.To : (r+1)*k.To]
		clear(y[copy(y, k.X[r*k.From:(r+1)*k.From]):])
	}
}
