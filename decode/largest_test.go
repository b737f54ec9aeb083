package decode

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestLargest(t *testing.T) {
	x := []float32{3, 1, 4, 1, 5, 9, 2, 6, 5}
	for n, want := range [][]int32{{}, {5}, {5, 7}, {5, 7, 4}, {5, 7, 4, 8}, {5, 7, 4, 8, 2}} {
		if got := largest(x, n); !slices.Equal(got, want) {
			t.Errorf("%d: %v, not %v", n, got, want)
		}
	}
	if got := largest(x, 100); len(got) != len(x) || got[8] != 3 {
		t.Errorf("all: %v", got)
	}
}

// TestLogSum goes over more than a block, with a logit that is alone at the top.
func TestLogSum(t *testing.T) {
	x := make([]float32, 20000)
	r := rand.New(rand.NewPCG(1, 1))
	for _, top := range []float32{0, 60} {
		var sum float64
		for i := range x {
			x[i] = float32(r.NormFloat64())
			if i == 9000 {
				x[i] += top
			}
			sum += math.Exp(float64(x[i]))
		}
		if got, want := logSum(x), math.Log(sum); math.Abs(got-want) > 1e-6*want {
			t.Errorf("top %v: %v, not %v", top, got, want)
		}
	}
}
