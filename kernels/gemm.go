//go:build gpu

package kernels

import (
	"time"

	"headroom/internal/device"
)

// A Gemm is Batch independent products C[M,N] = op(A)·op(B) (+ Bias[N]) at the given strides; the bias advances by N
// per product. Accumulate adds to C instead of overwriting it. A, B and the bias have one type; C may be float32 where
// they are bf16. cuBLASLt runs it, with float32 sums and no TF32.
type Gemm struct {
	TransA, TransB                   bool
	M, N, K                          int
	A, B, C                          device.Buffer
	Lda, Ldb, Ldc                    int
	Batch, StrideA, StrideB, StrideC int
	Bias                             device.Buffer
	Accumulate                       bool
}

// Product is the shape of the Gemm.
func (k *Gemm) Product() device.Product {
	return device.Product{
		TransA: k.TransA, TransB: k.TransB, M: k.M, N: k.N, K: k.K, Lda: k.Lda, Ldb: k.Ldb, Ldc: k.Ldc,
		Batch: k.Batch, StrideA: k.StrideA, StrideB: k.StrideB, StrideC: k.StrideC,
		In: k.A.Type, Out: k.C.Type, Bias: !k.Bias.Nil(), Accumulate: k.Accumulate,
	}
}

// Launch puts the product on the stream.
func (k *Gemm) Launch(s *device.Stream) { s.Multiply(k.Product(), k.A, k.B, k.C, k.Bias, 1) }

// Tune times cuBLASLt's algorithms for the shape, once for all Gemms of that shape, and keeps the fastest: with steady,
// the fastest while the GPU is under load, which takes longer to find out. It overwrites C.
func (k *Gemm) Tune(s *device.Stream, steady bool) (time.Duration, error) {
	return s.Tune(k.Product(), k.A, k.B, k.C, k.Bias, steady)
}
