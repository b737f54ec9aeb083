package ref

// sgemm is the one seam to the linked BLAS: C[m,n] = op(A)·op(B) + beta·C, row-major, on the calling core only.
func sgemm(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, beta float32,
	c []float32, ldc int) {
	if m == 0 || n == 0 {
		return
	}
	blasSgemm(transA, transB, m, n, k, a, lda, b, ldb, beta, c, ldc)
}
