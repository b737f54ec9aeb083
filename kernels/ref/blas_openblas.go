//go:build openblas

package ref

import (
	"sync"

	"github.com/ebitengine/purego"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/netlib/blas/netlib"
)

// BLAS names the library behind the products.
const BLAS = "openblas"

// oneThread holds OpenBLAS to the calling core: the pool spreads the blocks. The symbol is looked up in the running
// program: another BLAS under the same interface lacks it and is left alone.
var oneThread = sync.OnceFunc(func() {
	if set, err := purego.Dlsym(purego.RTLD_DEFAULT, "openblas_set_num_threads"); err == nil {
		purego.SyscallN(set, 1)
	}
})

func blasSgemm(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, beta float32,
	c []float32, ldc int) {
	oneThread()
	netlib.Implementation{}.Sgemm(transpose(transA), transpose(transB), m, n, k, 1, a, lda, b, ldb, beta, c, ldc)
}

func transpose(t bool) blas.Transpose {
	if t {
		return blas.Trans
	}
	return blas.NoTrans
}
