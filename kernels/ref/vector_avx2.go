//go:build goexperiment.simd && amd64

package ref

import (
	"math"
	"simd/archsimd"
)

// avx2 works on eight words at a time and leaves the ends of rows to masks or to plain Go.
var avx2 = vector{
	name: "avx2", add: add8, scale: scale8, dot: dot8, squares: squares8, max: max8, exp: exp8, ds: ds8, norm: norm8,
	dot3: dot38, dnorm: dnorm8, rotate: rotate8, gate: gate8, dgate: dgate8, open: open8,
	dopen: dopen8, adamw: adamw8,
}

type f8 = archsimd.Float32x8

func load8(x []float32) f8 { return archsimd.LoadFloat32x8Slice(x) }
func all8(a float32) f8    { return archsimd.BroadcastFloat32x8(a) }

// sum8 adds the lanes in pairs, always in the same order.
func sum8(x f8) float32 {
	var l [4]float32
	x.GetLo().Add(x.GetHi()).Store(&l)
	archsimd.ClearAVXUpperBits()
	return (l[0] + l[2]) + (l[1] + l[3])
}

func lanes8(x f8) float32 {
	var l [4]float32
	x.GetLo().Max(x.GetHi()).Store(&l)
	archsimd.ClearAVXUpperBits()
	return max(l[0], l[1], l[2], l[3])
}

func max8(x []float32) float32 {
	if len(x) < 8 {
		return scalar.max(x)
	}
	m := load8(x)
	for i := 8; i+8 <= len(x); i += 8 {
		m = m.Max(load8(x[i:]))
	}
	m = m.Max(load8(x[len(x)-8:]))
	return lanes8(m)
}

// exp8 is exp16 with the power of two built from its exponent bits.
func exp8(y, x []float32, a, b float32) float32 {
	x = x[:len(y)]
	va, vb, lo, hi := all8(a), all8(b), all8(expLow), all8(expHigh)
	log2e, ln2, ln2tail := all8(math.Log2E), all8(-ln2High), all8(-ln2Low)
	c2, c3, c4, c5, c6, one := all8(expC2), all8(expC3), all8(expC4), all8(expC5), all8(expC6), all8(1)
	bias := archsimd.BroadcastInt32x8(127)
	var s, zero f8
	i := 0
	for ; i+8 <= len(y); i += 8 {
		v := load8(x[i:]).MulAdd(va, vb)
		lost := v.Less(lo)
		v = hi.Min(lo.Max(v)) // in this order a NaN stays one
		n := v.Mul(log2e).RoundToEven()
		r := n.MulAdd(ln2tail, n.MulAdd(ln2, v))
		p := c6.MulAdd(r, c5).MulAdd(r, c4).MulAdd(r, c3).MulAdd(r, c2).MulAdd(r, one).MulAdd(r, one)
		p = p.Mul(n.ConvertToInt32().Add(bias).ShiftAllLeft(23).AsFloat32x8())
		p = zero.Merge(p, lost)
		p.StoreSlice(y[i:])
		s = s.Add(p)
	}
	return sum8(s) + scalar.exp(y[i:], x[i:], a, b)
}
