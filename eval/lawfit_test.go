package eval

import (
	"math"
	"math/rand/v2"
	"testing"
)

// syntheticLaw draws losses of two arms at sizes that grow tenfold in FLOPs: seeds move both arms together and each
// alone.
func syntheticLaw(r *rand.Rand, sizes, seeds int, noise float64) (sweep, cells, scaling) {
	truth := scaling{e: 1.5 + r.Float64(), a: []float64{r.Float64(), 0}, b: []float64{0.1 + 0.15*r.Float64(), 0}}
	truth.a[1], truth.b[1] = truth.a[0]+0.1*(r.Float64()-0.5), truth.b[0]+0.02*(r.Float64()-0.5)
	s, c := sweep{logx: make([][]float64, 2)}, make(cells, 2)
	for size := range sizes {
		s.runs = append(s.runs, float64(seeds))
		values := make([][]float64, 2)
		for range seeds {
			both := r.NormFloat64()
			for arm := range 2 {
				at := math.Ln10*(float64(size)-float64(sizes-1)/2) + 0.03*float64(arm)
				if len(values[arm]) == 0 {
					s.logx[arm] = append(s.logx[arm], at)
				}
				values[arm] = append(values[arm], truth.at(arm, at)+noise*(0.7*both+0.7*r.NormFloat64()))
			}
		}
		for arm := range 2 {
			c[arm] = append(c[arm], values[arm])
		}
	}
	return s, c, truth
}

func TestLawIsFoundWithoutNoise(t *testing.T) {
	s, c, truth := syntheticLaw(rand.New(rand.NewPCG(5, 5)), 4, 2, 0)
	f, ok := fitLaw(s, c)
	if !ok {
		t.Fatal("no law is found")
	}
	near(t, "irreducible loss", f.e, truth.e, 1e-3)
	for arm := range 2 {
		near(t, "exponent", f.b[arm], truth.b[arm], 1e-3)
	}
	near(t, "speed-up", f.speedup(1, 2), truth.speedup(1, 2), 1e-4)
}

// TestSpeedupByHand has laws that differ by a factor alone: exp(0.1) of what lies above e, at exponent 0.2, is exp(0.5)
// of FLOPs.
func TestSpeedupByHand(t *testing.T) {
	l := scaling{e: 2, a: []float64{0.1, 0}, b: []float64{0.2, 0.2}}
	near(t, "speed-up", math.Exp(l.speedup(1, 3)), math.Exp(0.5), 1e-12)
	near(t, "loss of the baseline at as many times the FLOPs", l.at(0, 3+0.5), l.at(1, 3), 1e-12)
}
