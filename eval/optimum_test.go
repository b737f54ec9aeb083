package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// swept are rates in steps of a ratio with losses by seed.
func swept(first, ratio float64, losses ...[]float64) (rates []Rate) {
	for i, l := range losses {
		rates = append(rates, Rate{LR: first * math.Pow(ratio, float64(i)), NLL: l})
	}
	return rates
}

func TestOptimumByHand(t *testing.T) {
	// 3 + (log2(rate/0.001) - 0.25)² at -1, 0 and 1, of two seeds that differ by 0.1: no scatter is left, and the
	// interval is a point.
	rates := swept(5e-4, 2, []float64{4.5625, 4.6625}, []float64{3.0625, 3.1625}, []float64{3.5625, 3.6625})
	o, why := optimum(rates, 2)
	if o == nil || o.Rates != 3 {
		t.Fatalf("%+v, %s", o, why)
	}
	best := 1e-3 * math.Pow(2, 0.25)
	near(t, "optimum", o.LR, best, 1e-9)
	near(t, "loss", o.Loss, 3.05, 1e-9)
	near(t, "low", o.Interval[0], best, 1e-9)
	near(t, "high", o.Interval[1], best, 1e-9)

	// Uneven steps: (ln(rate))² at the rates 1/e, e and e² has its least at 1.
	o, _ = optimum([]Rate{{LR: 1 / math.E, NLL: []float64{1}}, {LR: math.E, NLL: []float64{1}},
		{LR: math.E * math.E, NLL: []float64{4}}}, 1)
	near(t, "optimum of uneven steps", o.LR, 1, 1e-9)
	near(t, "loss of uneven steps", o.Loss, 0, 1e-9)
	if o.Interval != nil {
		t.Errorf("three losses have the interval %v", *o.Interval)
	}
}

// TestFarRatesDoNotPull: a rate that ends badly three steps away moves nothing.
func TestFarRatesDoNotPull(t *testing.T) {
	near3 := [][]float64{{3.09}, {3.04}, {3.01}, {3.00}, {3.01}, {3.04}}
	o, _ := optimum(swept(1e-3, 2, near3...), 1)
	far, _ := optimum(swept(1e-3, 2, append(near3, []float64{9})...), 1)
	near(t, "optimum", o.LR, 8e-3, 1e-9)
	near(t, "optimum with a bad rate far away", far.LR, o.LR, 1e-12)
}

func TestEdge(t *testing.T) {
	bad := []Failure{{1, "diverged"}}
	for _, c := range []struct {
		name  string
		rates []Rate
		edge  string
		why   string
	}{
		{"the first", swept(1, 2, []float64{1}, []float64{2}, []float64{3}), Lower,
			"no parabola: the losses do not bend upward around the best rate"},
		{"the last", swept(1, 2, []float64{3}, []float64{1.5}, []float64{1}), Higher, ""},
		{"the last of two", swept(1, 2, []float64{3}, []float64{2}), Higher,
			"no parabola: it takes three rates, and 2 were tried"},
		{"in any order", []Rate{{4, []float64{1}, nil}, {1, []float64{3}, nil}, {2, []float64{2}, nil}}, Higher,
			"no parabola: the losses do not bend upward around the best rate"},
		{"inside", swept(1, 2, []float64{2}, []float64{1}, []float64{2}), "", ""},
		{"the parabola has its least beyond the last",
			swept(1, 2, []float64{3.5}, []float64{3}, []float64{2}, []float64{2.01}), Higher, ""},
		{"beyond the last, which failed", append(swept(1, 2, []float64{3.5}, []float64{3}, []float64{2}, []float64{2.01}),
			Rate{9, nil, bad}), "", ""},
		{"beyond the first", swept(1, 2, []float64{2.01}, []float64{2}, []float64{3}, []float64{3.5}), Lower, ""},
		{"one rate", swept(1, 2, []float64{2}), "", "no parabola: it takes three rates, and 1 were tried"},
		{"the best is the last that did not fail", []Rate{{1, []float64{3}, nil}, {2, []float64{2}, nil}, {4, nil, bad}}, "",
			"no parabola: it takes three rates, and 2 of 3 finished with every seed"},
		{"none", []Rate{{1, nil, bad}, {2, nil, bad}, {4, nil, bad}}, "",
			"no parabola: it takes three rates, and 0 of 3 finished with every seed"},
		{"a seed is missing", swept(1, 2, []float64{2, 2}, []float64{1, 1}, []float64{2}), "",
			"no parabola: it takes three rates, and 2 of 3 finished with every seed"},
	} {
		if got := Edge(c.rates, 1); got != c.edge {
			t.Errorf("%s: the edge is %q, not %q", c.name, got, c.edge)
		}
		o, why := optimum(c.rates, 1)
		if why != c.why {
			t.Errorf("%s: %+v, %q, not %q", c.name, o, why, c.why)
		}
	}
}

// TestOptimumIntervalsCover counts how often the interval holds the optimum that losses were drawn around, with normal
// and heavy-tailed seeds. One without ends holds it in any case. Where the bend is small against the scatter, few have
// ends; these come from the sweeps whose bend looks largest, and of them alone fewer hold.
func TestOptimumIntervalsCover(t *testing.T) {
	for i, c := range []struct {
		rates, seeds int
		bend, tails  float64
		most         float64
	}{{3, 2, 0.02, 0, 0.965}, {3, 3, 0.02, 0, 0.965}, {4, 1, 0.02, 0, 0.965}, {5, 3, 0.02, 0, 0.965},
		{3, 3, 0.005, 0, 0.98}, {3, 3, 0.02, 3, 0.97}} {
		r := rand.New(rand.NewPCG(3, uint64(i)))
		const sweeps = 4000
		held, bounded := 0, 0
		for range sweeps {
			at := r.Float64() - 0.5 // in steps from the middle of the rates
			losses := make([][]float64, c.rates)
			for range c.seeds {
				all := 0.1 * r.NormFloat64()
				for j := range losses {
					u := float64(j) - float64(c.rates-1)/2 - at
					losses[j] = append(losses[j], 3+c.bend*u*u+all+0.01*study{tails: c.tails}.scatter(r))
				}
			}
			p := newParabola(swept(1, 2, losses...))
			o := p.optimum()
			truth := math.Pow(2, float64(c.rates-1)/2+at)
			held += count(o.Interval == nil || o.Interval[0] <= truth && truth <= o.Interval[1])
			bounded += count(o.Interval != nil)
		}
		name := fmt.Sprintf("%d rates, %d seeds, bend %g, tails of %g", c.rates, c.seeds, c.bend, c.tails)
		t.Logf("%s: %.1f%% hold, %.1f%% have ends", name, 100*float64(held)/sweeps, 100*float64(bounded)/sweeps)
		between(t, name+": intervals that hold the optimum", float64(held)/sweeps, 0.935, c.most)
	}
}
