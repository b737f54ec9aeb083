//go:build goexperiment.simd && amd64

package ref

import "simd/archsimd"

// Every pass ends with ClearAVXUpperBits before any scalar arithmetic: Go's scalar code is SSE, and on the machine
// where this was measured (Xeon, AVX-512) a math.Exp after a pass with dirty upper halves took 1,100 ns instead of 12.

// vectors lists the implementations that this machine can run, the best one last.
func vectors() []vector {
	all := []vector{scalar}
	if archsimd.X86.AVX2() && archsimd.X86.FMA() {
		all = append(all, avx2)
	}
	if archsimd.X86.AVX512() {
		all = append(all, avx512)
	}
	return all
}

// The exponential: its upper end, ln 2 in two parts, and a polynomial of degree 6 through the Chebyshev points of ±ln
// 2/2.
const (
	expHigh = 88.7
	ln2High = 0.693359375
	ln2Low  = -2.12194440e-4
	expC2   = 0.5000002235
	expC3   = 0.1666657667
	expC4   = 0.0416591259
	expC5   = 0.008363232884
	expC6   = 0.001442001675
)
