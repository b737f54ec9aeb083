package ref

// A Gemm is Batch independent products C[M,N] = op(A)·op(B) (+ Bias[N]) at the given strides; the bias advances by N
// per product. Accumulate adds to C instead of overwriting it.
type Gemm struct {
	TransA, TransB                   bool
	M, N, K                          int
	A, B, C                          []float32
	Lda, Ldb, Ldc                    int
	Batch, StrideA, StrideB, StrideC int
	Bias                             []float32
	Accumulate                       bool

	rows, cols, deep int       // of a tile
	down, over, part int       // tiles of one product
	sums             []float32 // [Batch, part, M, N] when K is cut
}

// Run executes the kernel on all cores.
func (k *Gemm) Run() {
	k.part = 1
	if k.M < 1024 && k.K >= 2048 && k.M*k.N <= 1<<20 && k.Bias == nil {
		k.part = min(8, k.K/1024)
	}
	words := 0
	if k.part > 1 {
		words = k.Batch * k.part * k.M * k.N
	}
	k.sums = cores.lock(words)
	defer cores.unlock()
	k.tile()
	cores.run(k, k.Batch*k.part*k.down*k.over, 1)
	if k.part > 1 {
		cores.run((*foldGemm)(k), k.Batch*k.M, max(1, words/k.part/16/k.N))
	}
	k.sums = nil
}

// tile cuts C by its shape alone: BLAS libraries sum the elements at a tile's edge in another order than those inside
// (the AVX2 kernels of OpenBLAS do), so that tiles cut for the number of cores would give other bits on other machines.
// Four tiles feed two cores evenly, larger products are cut into more for larger machines, and nothing is cut below 64
// rows or columns, where packing does not pay: with K = N = 256 tiles of 128, 256, 512 and 1024 rows ran at 103, 111,
// 127 and 137 GFLOP/s a core. A small C with a long K, the gradient of a weight, is cut along K instead (127 against
// 80).
func (k *Gemm) tile() {
	k.rows, k.cols, k.deep = max(k.M, 1), max(k.N, 1), max((k.K+k.part-1)/k.part, 1)
	if products := k.Batch * k.part; k.M >= k.N {
		k.rows = min(k.rows, tileOf(k.M, products))
	} else {
		k.cols = min(k.cols, tileOf(k.N, products))
	}
	k.down, k.over = (k.M+k.rows-1)/k.rows, (k.N+k.cols-1)/k.cols
}

// tileOf is how many of n rows or columns a tile takes, where there are so many products.
func tileOf(n, products int) int {
	share := func(tiles int) int { return (n*products/tiles + 63) &^ 63 }
	return max(64, min(share(4), 512), min(share(16), 1024))
}

func (k *Gemm) span(_ *worker, lo, hi int) {
	for u := lo; u < hi; u++ {
		tile, part, product := u%(k.down*k.over), u/(k.down*k.over)%k.part, u/(k.down*k.over*k.part)
		i, j, l := tile/k.over*k.rows, tile%k.over*k.cols, part*k.deep
		m, n, deep := min(k.rows, k.M-i), min(k.cols, k.N-j), max(0, min(k.deep, k.K-l))
		a, b := k.A[product*k.StrideA:], k.B[product*k.StrideB:]
		if k.TransA {
			a = a[l*k.Lda+i:]
		} else {
			a = a[i*k.Lda+l:]
		}
		if k.TransB {
			b = b[j*k.Ldb+l:]
		} else {
			b = b[l*k.Ldb+j:]
		}
		if k.part > 1 {
			sum := k.sums[((product*k.part+part)*k.M+i)*k.N+j:]
			sgemm(k.TransA, k.TransB, m, n, deep, a, k.Lda, b, k.Ldb, 0, sum, k.N)
			continue
		}
		c, beta := k.C[product*k.StrideC+i*k.Ldc+j:], float32(0)
		if k.Accumulate || k.Bias != nil {
			beta = 1
		}
		if k.Bias != nil {
			k.bias(k.Bias[product*k.N+j:][:n], c, m)
		}
		sgemm(k.TransA, k.TransB, m, n, deep, a, k.Lda, b, k.Ldb, beta, c, k.Ldc)
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

// foldGemm is the second phase of a product whose K was cut: C = Σ parts, in their order.
type foldGemm Gemm

func (k *foldGemm) span(_ *worker, lo, hi int) {
	for row := lo; row < hi; row++ {
		product, i := row/k.M, row%k.M
		c := k.C[product*k.StrideC+i*k.Ldc:][:k.N]
		for part := range k.part {
			sum := k.sums[((product*k.part+part)*k.M+i)*k.N:][:k.N]
			if part == 0 && !k.Accumulate {
				copy(c, sum)
			} else {
				vec.add(c, c, sum)
			}
		}
	}
}
