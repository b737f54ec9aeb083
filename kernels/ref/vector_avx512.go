//go:build goexperiment.simd && amd64

package ref

import (
	"math"
	"simd/archsimd"
)

// avx512 works on sixteen words at a time and leaves the ends of rows to masks or to plain Go.
var avx512 = vector{
	name: "avx512", add: add16, scale: scale16, dot: dot16, squares: squares16, max: max16, exp: exp16, ds: ds16,
	norm: norm16,
	dot3: dot316, dnorm: dnorm16, rotate: rotate16, gate: gate16, dgate: dgate16, open: open16,
	dopen: dopen16, adamw: adamw16,
}

type f16 = archsimd.Float32x16

func load16(x []float32) f16          { return archsimd.LoadFloat32x16Slice(x) }
func all16(a float32) f16             { return archsimd.BroadcastFloat32x16(a) }
func sum16(x f16) float32             { return sum8(x.GetLo().Add(x.GetHi())) }
func mask16(n int) archsimd.Mask32x16 { return archsimd.Mask32x16FromBits(1<<n - 1) }

func max16(x []float32) float32 {
	if len(x) < 16 {
		return scalar.max(x)
	}
	m := load16(x)
	for i := 16; i+16 <= len(x); i += 16 {
		m = m.Max(load16(x[i:]))
	}
	m = m.Max(load16(x[len(x)-16:]))
	return lanes8(m.GetLo().Max(m.GetHi()))
}

// exp16 splits a·x + b = n·ln 2 + r with |r| <= ln 2/2 and takes a polynomial of r times 2^n; 2 units of the last
// place off at most.
func exp16(y, x []float32, a, b float32) float32 {
	x = x[:len(y)]
	va, vb, lo, hi := all16(a), all16(b), all16(expLow), all16(expHigh)
	log2e, ln2, ln2tail := all16(math.Log2E), all16(-ln2High), all16(-ln2Low)
	c2, c3, c4, c5, c6, one := all16(expC2), all16(expC3), all16(expC4), all16(expC5), all16(expC6), all16(1)
	var s, zero f16
	for i := 0; i < len(y); i += 16 {
		full := i+16 <= len(y)
		var v f16
		if full {
			v = load16(x[i:])
		} else {
			v = archsimd.LoadFloat32x16SlicePart(x[i:])
		}
		v = v.MulAdd(va, vb)
		lost := v.Less(lo)
		v = hi.Min(lo.Max(v)) // in this order a NaN stays one
		n := v.Mul(log2e).RoundToEvenScaled(0)
		r := n.MulAdd(ln2tail, n.MulAdd(ln2, v))
		p := c6.MulAdd(r, c5).MulAdd(r, c4).MulAdd(r, c3).MulAdd(r, c2).MulAdd(r, one).MulAdd(r, one).Scale(n)
		p = zero.Merge(p, lost)
		if full {
			p.StoreSlice(y[i:])
		} else {
			p = p.Masked(mask16(len(y) - i))
			p.StoreSlicePart(y[i:])
		}
		s = s.Add(p)
	}
	return sum16(s)
}
