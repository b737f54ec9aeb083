package ref

import "math"

// E4M3 is the 8-bit float of the Open Compute Project: a sign, four bits of exponent with a bias of 7, and three of
// mantissa. Its largest value is 448, its steps below 2⁻⁶ are of 2⁻⁹, it has no infinity, and what has all bits set
// beside the sign is NaN.
type E4M3 = uint8

const nanE4M3 E4M3 = 0x7f

// ToE4M3 rounds to nearest, ties to even. What is larger than 448 becomes 448, as GPUs convert, and a NaN stays one.
func ToE4M3(x float32) E4M3 {
	u := math.Float32bits(x)
	sign, a := E4M3(u>>24)&0x80, u&0x7fffffff
	switch {
	case x != x:
		return nanE4M3
	case a >= 0x43e00000: // 448
		return sign | (nanE4M3 - 1)
	case a < 121<<23: // 2⁻⁶: in steps of 2⁻⁹; the eighth of them is the smallest with an exponent
		return sign | E4M3(math.RoundToEven(math.Abs(float64(x))*0x1p9))
	}
	a -= 120 << 23 // the exponent's bias is 7 there and 127 here
	return sign | E4M3((a+0x7ffff+a>>20&1)>>20)
}

// FromE4M3 has the value of every byte.
var FromE4M3 = func() (values [256]float32) {
	for i := range values {
		e, m := i>>3&15, float64(i&7)
		v := math.Ldexp(8+m, e-10)
		if e == 0 {
			v = math.Ldexp(m, -9)
		}
		if i&0x7f == int(nanE4M3) {
			v = math.NaN()
		}
		values[i] = float32(math.Copysign(v, float64(127-i)))
	}
	return values
}()

// An E8M0 is a power of two, 2^(byte-127), or NaN where it is 255. Vectors of E4M3 have one as their scale. Products by
// it are exact, and so a value that was read from a byte is exact in bf16 too.
type E8M0 = uint8

const (
	nanE8M0   E8M0 = 255
	leastE8M0 E8M0 = 10  // of a vector: 2⁻¹¹⁷, with which no value is subnormal in float32 or bf16
	mostE8M0  E8M0 = 246 // 2¹¹⁹, with which none is infinite
)

// QuantizeE4M3 writes a vector as bytes and returns their scale: the least power of two by which no element is above
// 448. It depends on the vector alone. A vector with a NaN or an infinity is all NaN, so that the fault is not hidden.
func QuantizeE4M3(to []E4M3, x []float32) E8M0 {
	var top uint32
	for _, v := range x {
		top = max(top, math.Float32bits(v)&0x7fffffff)
	}
	if top >= 255<<23 {
		for i := range x {
			to[i] = nanE4M3
		}
		return nanE8M0
	}
	// 448 is 1.75·2⁸: a mantissa above 1.75 carries into the exponent
	scale := E8M0(min(max(int((top+0x1fffff)>>23)-8, int(leastE8M0)), int(mostE8M0)))
	inverse := math.Float32frombits(uint32(254-scale) << 23)
	for i, v := range x {
		to[i] = ToE4M3(v * inverse)
	}
	return scale
}

// DequantizeE4M3 reads a vector.
func DequantizeE4M3(to []float32, from []E4M3, scale E8M0) {
	factor := math.Float32frombits(uint32(scale) << 23)
	if scale == nanE8M0 {
		factor = float32(math.NaN())
	}
	for i, b := range from {
		to[i] = FromE4M3[b] * factor
	}
}
