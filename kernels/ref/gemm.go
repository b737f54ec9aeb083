package ref

// A Gemm is Batch independent products C[M,N] = op(A)·op(B) (+ Bias[N]) at the given strides; the bias advances by N per
// product. Accumulate adds to C instead of overwriting it.
type Gemm struct {
	TransA, TransB                   bool
	M, N, K                          int
	A, B, C                          []float32
	Lda, Ldb, Ldc                    int
	Batch, StrideA, StrideB, StrideC int
	Bias                             []float32
	Accumulate                       bool

	rows, cols int // of a tile
	down, over int // tiles of one product
}

// Run executes the kernel on all cores.
func (k *Gemm) Run() {
	k.tile()
	parallel(k, k.Batch*k.down*k.over, 1)
}

// tile cuts C by its shape alone, into pieces small enough for many cores and large enough for packing to pay.
func (k *Gemm) tile() {
	k.rows, k.cols = min(k.M, 256), k.N
	if k.M < 1024 && k.M >= k.N {
		k.rows = min(k.M, max(32, (k.M+3)/4))
	} else if k.M < 1024 {
		k.rows, k.cols = k.M, min(k.N, max(32, (k.N+3)/4))
	}
	k.rows, k.cols = max(k.rows, 1), max(k.cols, 1)
	k.down, k.over = (k.M+k.rows-1)/k.rows, (k.N+k.cols-1)/k.cols
}

func (k *Gemm) span(_ *worker, lo, hi int) {
	for u := lo; u < hi; u++ {
		product, tile := u/(k.down*k.over), u%(k.down*k.over)
		i, j := tile/k.over*k.rows, tile%k.over*k.cols
		m, n := min(k.rows, k.M-i), min(k.cols, k.N-j)
		a, b, c := k.A[product*k.StrideA:], k.B[product*k.StrideB:], k.C[product*k.StrideC+i*k.Ldc+j:]
		if k.TransA {
			a = a[i:]
		} else {
			a = a[i*k.Lda:]
		}
		if k.TransB {
			b = b[j*k.Ldb:]
		} else {
			b = b[j:]
		}
		beta := float32(0)
		if k.Accumulate {
			beta = 1
		}
		if k.Bias != nil {
			k.bias(k.Bias[product*k.N+j:][:n], c, m)
			beta = 1
		}
		sgemm(k.TransA, k.TransB, m, n, k.K, a, k.Lda, b, k.Ldb, beta, c, k.Ldc)
	}
}

// bias puts the bias under the product, so that the product adds to it.
func (k *Gemm) bias(bias, c []float32, m int) {
	for r := range m {
		row := c[r*k.Ldc:][:len(bias)]
		if k.Accumulate {
			vec.add(row, row, bias)
		} else {
			copy(row, bias)
		}
	}
}
