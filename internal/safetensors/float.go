package safetensors

import "math"

// ToBF16 rounds to nearest, ties to even, and keeps a NaN one.
func ToBF16(x float32) uint16 {
	u := math.Float32bits(x)
	if x != x {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// FromBF16 is exact.
func FromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// ToF16 rounds to nearest, ties to even; what is too large becomes infinite, and a NaN stays one.
func ToF16(x float32) uint16 {
	u := math.Float32bits(x)
	sign, a := uint16(u>>16)&0x8000, math.Abs(float64(x))
	switch {
	case x != x:
		return sign | 0x7e00
	case a >= 65520: // halfway to the number after the largest
		return sign | 0x7c00
	case a < 0x1p-14: // in steps of 2⁻²⁴; the last of them is the smallest with an exponent
		return sign | uint16(math.RoundToEven(a*0x1p24))
	}
	u = u&0x7fffffff - 112<<23 // the exponent's bias is 15 there and 127 here
	return sign | uint16((u+0xfff+u>>13&1)>>13)
}

// FromF16 is exact.
func FromF16(h uint16) float32 {
	sign, e, m := uint32(h&0x8000)<<16, h>>10&31, uint32(h&0x3ff)
	switch e {
	case 0:
		return math.Float32frombits(sign | math.Float32bits(float32(m)*0x1p-24))
	case 31:
		return math.Float32frombits(sign | 0xff<<23 | m<<13)
	}
	return math.Float32frombits(sign | (uint32(e)+112)<<23 | m<<13)
}
