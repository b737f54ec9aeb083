package ref

import "math"

// Exp is e^x of x <= 0 to about one unit in the last place, 0 below e^-87: 2^n · e^r with |r| <= ln2/2. math.Exp took
// half of a prompt's time.
func Exp(x float32) float32 {
	if x < -87 {
		return 0
	}
	const round = 3 << 22 // added to a float32, it leaves the nearest whole number in the low bits
	n := float32(x*math.Log2E) + round
	bits := math.Float32bits(n)
	n -= round
	r := x - n*0.693359375 + n*2.12194440e-4
	p := 1 + r*(1+r*(0.5+r*(1./6+r*(1./24+r*(1./120+r*(1./720+r*(1./5040)))))))
	return math.Float32frombits(math.Float32bits(p) + bits<<23)
}
