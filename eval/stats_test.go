package eval

import (
	"math"
	"math/rand/v2"
	"testing"
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %v, not %v", what, got, want)
	}
}

func TestMeanInterval(t *testing.T) {
	// By hand: mean 16.4, standard deviation 0.1, t(0.975, 2) = 4.302653.
	e := Mean([]float64{16.3, 16.4, 16.5})
	near(t, "mean", e.Mean, 16.4, 1e-12)
	near(t, "half", e.Half, 4.302653*0.1/math.Sqrt(3), 1e-6)
	if one := Mean([]float64{5}); one != (Estimate{Mean: 5, N: 1}) {
		t.Errorf("one value: %+v", one)
	}
	if none := Mean(nil); none != (Estimate{}) {
		t.Errorf("no value: %+v", none)
	}
}

func TestQuantilesOfPublishedTables(t *testing.T) {
	for freedom, want := range map[int]float64{1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262, 30: 2.042} {
		near(t, "t(0.975)", quantile(freedom, 0.975), want, 5e-4)
	}
}

func TestPaired(t *testing.T) {
	// Student's sleep data (1908), ten patients, two drugs: t = -4.0621, p = 0.002833, interval -2.4598855 to -0.7001145.
	x := []float64{0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0}
	y := []float64{1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4}
	d := Paired(x, y)
	near(t, "mean", d.Mean, -1.58, 1e-12)
	near(t, "p", d.P, 0.002833, 1e-6)
	near(t, "low", d.Mean-d.Half, -2.4598855, 1e-6)
	near(t, "high", d.Mean+d.Half, -0.7001145, 1e-6)
	if !d.Found() {
		t.Error("the difference is not found")
	}
}

func TestPairedEdges(t *testing.T) {
	for _, c := range []struct {
		name  string
		x, y  []float64
		p     float64
		found bool
	}{
		{"one pair", []float64{5}, []float64{4}, 0, false},
		{"none", nil, nil, 0, false},
		{"all equal", []float64{5, 6}, []float64{5, 6}, 1, false},
		{"a constant difference", []float64{5, 6}, []float64{4, 5}, 0, true},
		{"noise", []float64{5, 6, 7}, []float64{5.2, 5.7, 7}, 0.84, false},
	} {
		d := Paired(c.x, c.y)
		near(t, c.name+": p", d.P, c.p, 0.01)
		if d.Found() != c.found {
			t.Errorf("%s: found is %v", c.name, d.Found())
		}
	}
}

func TestHolm(t *testing.T) {
	// By hand: 0.01·4, then max(0.04, 0.02·3), then max(0.06, 0.03·2), then max(0.06, 0.05).
	for i, got := range Holm([]float64{0.02, 0.01, 0.05, 0.03}) {
		near(t, "corrected p", got, []float64{0.06, 0.04, 0.06, 0.06}[i], 1e-12)
	}
	for _, got := range Holm([]float64{0.6, 0.7}) {
		near(t, "corrected p", got, 1, 0)
	}
}

func TestBootstrap(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	x := make([]float64, 400)
	for i := range x {
		x[i] = 10 + r.NormFloat64()
	}
	low, high := Bootstrap(x, 4000, 1)
	e := Mean(x) // of so many values both intervals are nearly the same
	near(t, "low", low, e.Mean-e.Half, 0.01)
	near(t, "high", high, e.Mean+e.Half, 0.01)
	if again, _ := Bootstrap(x, 4000, 1); again != low {
		t.Errorf("the same seed gives %v and %v", low, again)
	}
	if other, _ := Bootstrap(x, 4000, 2); other == low {
		t.Error("another seed gives the same resamples")
	}
}

// TestSmallest draws trials whose true difference is the smallest detectable and counts how many find it.
func TestSmallest(t *testing.T) {
	for _, n := range []int{2, 3, 5, 10} {
		d := Smallest(0.5, n)
		r := rand.New(rand.NewPCG(uint64(n), 9))
		const trials = 5000
		found := 0
		for range trials {
			x := make([]float64, n)
			for i := range x {
				x[i] = d + 0.5*r.NormFloat64()
			}
			if e := Mean(x); e.Mean > e.Half {
				found++
			}
		}
		near(t, "power", float64(found)/trials, 0.8, 0.02)
	}
}
