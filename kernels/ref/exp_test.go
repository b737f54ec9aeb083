package ref

import (
	"math"
	"testing"
)

func TestExpOfNegatives(t *testing.T) {
	for x := float32(0); x > -87; x -= 0.0037 {
		if want := math.Exp(float64(x)); math.Abs(float64(Exp(x))/want-1) > 2e-7 {
			t.Fatalf("Exp(%g) = %g, not %g", x, Exp(x), want)
		}
	}
	if Exp(0) != 1 || Exp(-88) != 0 || Exp(float32(math.Inf(-1))) != 0 {
		t.Error(Exp(0), Exp(-88), Exp(float32(math.Inf(-1))))
	}
}
