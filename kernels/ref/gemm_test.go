package ref

import (
	"fmt"
	"math"
	"testing"
)

// product is the oracle: C = op(A)·op(B) + bias.
func product(k *Gemm, a, b, bias []float64) []float64 {
	c := make([]float64, len(k.C))
	for p := range k.Batch {
		for i := range k.M {
			for j := range k.N {
				at := p*k.StrideC + i*k.Ldc + j
				for l := range k.K {
					ai, bi := i*k.Lda+l, l*k.Ldb+j
					if k.TransA {
						ai = l*k.Lda + i
					}
					if k.TransB {
						bi = j*k.Ldb + l
					}
					c[at] += a[p*k.StrideA+ai] * b[p*k.StrideB+bi]
				}
				if bias != nil {
					c[at] += bias[p*k.N+j]
				}
			}
		}
	}
	return c
}

func TestGemm(t *testing.T) {
	type dims struct{ m, n, k int }
	shapes := []dims{{1, 1, 1}, {3, 5, 2}, {63, 65, 64}, {64, 127, 3}, {127, 1, 65}, {1, 127, 63}, {1030, 3, 17},
		{300, 40, 5}, {40, 300, 5}, {5, 7, 4099}}
	for i, d := range shapes {
		for mode := range 16 {
			ta, tb, bias, batch := mode&1 != 0, mode&2 != 0, mode&4 != 0, 1+mode>>3
			t.Run(fmt.Sprintf("%v/%d", d, mode),
				func(t *testing.T) { testGemm(t, uint64(i*16+mode), d.m, d.n, d.k, batch, ta, tb, bias) })
		}
	}
}

// testGemm interleaves the products of a batch by rows, as the heads of a grouped layer are.
func testGemm(t *testing.T, seed uint64, m, n, k, batch int, ta, tb, bias bool) {
	s := newSource(seed)
	rowsA, colsA, rowsB, colsB := m, k, k, n
	if ta {
		rowsA, colsA = k, m
	}
	if tb {
		rowsB, colsB = n, k
	}
	g := &Gemm{
		TransA: ta, TransB: tb, M: m, N: n, K: k, Batch: batch, Lda: colsA * batch, StrideA: colsA, Ldb: colsB,
		StrideB: rowsB * colsB, Ldc: n * batch, StrideC: n,
		A: s.normal(rowsA * colsA * batch), B: s.normal(rowsB * colsB * batch), C: s.guarded(m * n * batch),
	}
	var b64 []float64
	if bias {
		g.Bias = s.normal(n * batch)
		b64 = wide(g.Bias)
	}
	want := product(g, wide(g.A), wide(g.B), b64)
	tol := 2e-6 + 1e-7*math.Sqrt(float64(k))
	twice(t, g, g.C)
	near(t, "C", g.C, want, tol)
	g.Accumulate = true
	accumulates(t, "C", g, g.C, want, tol)
	s.check(t)
}
