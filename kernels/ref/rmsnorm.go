package ref

import "math"

// An RMSNorm is Rstd = 1/√(mean(x²) + Eps) and Y = Rstd·x·w for each group of C words.
// X, Y [Rows, Groups, C]; W [Groups, C]; Rstd [Rows, Groups].
type RMSNorm struct {
	X, W, Y, Rstd   []float32
	Rows, Groups, C int
	Eps             float32
}

// Run executes the kernel on all cores.
func (k *RMSNorm) Run() { parallel(k, k.Rows, 64) }

func (k *RMSNorm) span(_ *worker, lo, hi int) {
	for i := lo * k.Groups; i < hi*k.Groups; i++ {
		x, w := k.X[i*k.C:(i+1)*k.C], k.W[i%k.Groups*k.C:][:k.C]
		r := float32(1 / math.Sqrt(float64(vec.dot(x, x)/float32(k.C)+k.Eps)))
		k.Rstd[i] = r
		vec.norm(k.Y[i*k.C:(i+1)*k.C], x, w, r)
	}
}

// An RMSNormGrad is dx = r·w·dy - x·r³·Σ(w·dy·x)/C and dw = Σ_rows r·x·dy, with r = Rstd.
// AccumulateDX and AccumulateDW add to the outputs. DX may alias DY when it is overwritten.
type RMSNormGrad struct {
	X, W, Rstd, DY, DX, DW     []float32
	Rows, Groups, C            int
	AccumulateDX, AccumulateDW bool

	part []float32 // [parts, Groups, C]: a DW per range of rows
}

// normRows rows share one partial DW.
const normRows = 128

// Run executes the kernel on all cores.
func (k *RMSNormGrad) Run() {
	n := k.Groups * k.C
	k.part = cores.lock((k.Rows + normRows - 1) / normRows * n)
	defer cores.unlock()
	cores.run(k, k.Rows, normRows)
	if !k.AccumulateDW {
		clear(k.DW)
	}
	for p := 0; p < len(k.part); p += n {
		vec.add(k.DW[:n], k.DW[:n], k.part[p:p+n])
	}
}

func (k *RMSNormGrad) span(w *worker, lo, hi int) {
	n := k.Groups * k.C
	for ; lo < hi; lo += normRows {
		dw := k.part[lo/normRows*n:][:n]
		clear(dw)
		for row := lo; row < min(lo+normRows, hi); row++ {
			for g := range k.Groups {
				k.row(w, dw[g*k.C:(g+1)*k.C], row*k.Groups+g, g)
			}
		}
	}
}

func (k *RMSNormGrad) row(wk *worker, dw []float32, i, g int) {
	x, w, dy := k.X[i*k.C:(i+1)*k.C], k.W[g*k.C:(g+1)*k.C], k.DY[i*k.C:(i+1)*k.C]
	dx, r := k.DX[i*k.C:(i+1)*k.C], k.Rstd[i]
	c := r * r * r * vec.dot3(x, w, dy) / float32(k.C)
	if !k.AccumulateDX {
		if &dx[0] == &dy[0] {
			dy = wk.floats(k.C)
			copy(dy, dx)
		}
		clear(dx)
	}
	vec.dnorm(dx, dw, x, w, dy, r, c)
}
