package safetensors

import (
	"math"
	"testing"
)

// TestF16 takes every half-precision number there and back, and the numbers between two of them to the nearer one.
func TestF16(t *testing.T) {
	for h := range 1 << 16 {
		x := FromF16(uint16(h))
		if back := ToF16(x); x == x && back != uint16(h) || x != x && FromF16(back) == FromF16(back) {
			t.Fatalf("%#x is %v, which is %#x", h, x, back)
		}
		if h >= 0x7bff { // the largest finite one
			continue
		}
		next := FromF16(uint16(h + 1))
		even := uint16(h + h&1)
		middle := (x + next) / 2
		below, above := math.Nextafter32(middle, x), math.Nextafter32(middle, next)
		if ToF16(middle) != even || ToF16(below) != uint16(h) || ToF16(above) != uint16(h+1) {
			t.Fatalf("round %v, between %v and %v: %#x %#x %#x", middle, x, next, ToF16(below), ToF16(middle), ToF16(above))
		}
	}
	for x, want := range map[float32]uint16{1: 0x3c00, -2: 0xc000, 65504: 0x7bff, 65519: 0x7bff, 65520: 0x7c00,
		-1e30: 0xfc00, 1e-30: 0, 0x1p-25: 0, 0x1.8p-25: 1} {
		if got := ToF16(x); got != want {
			t.Errorf("%v is %#x, not %#x", x, got, want)
		}
	}
}
