package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/stat"
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
		near(t, "t(0.975)", critical(freedom, 0.05), want, 5e-4)
	}
}

func TestPaired(t *testing.T) {
	// Student's sleep data (1908), ten patients, two drugs: t = -4.0621, p = 0.002833, interval -2.4598855 to
	// -0.7001145.
	x := []float64{0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0}
	y := []float64{1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4}
	d := Paired(x, y, 1)
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
		d := Paired(c.x, c.y, 1)
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

// TestSmallest draws pairs of trials: what the first says is resolved is the true difference of the second. It counts
// how many of the second find it, alone and as the only one of a family that is corrected.
func TestSmallest(t *testing.T) {
	for _, tests := range []int{1, 3} {
		for _, n := range []int{2, 3, 5, 10} {
			alpha := significant / float64(tests)
			r := rand.New(rand.NewPCG(uint64(n), 9))
			const trials = 5000
			found, smallest := 0, 0.0
			for range trials {
				x := make([]float64, n)
				for i := range x {
					x[i] = 0.5 * r.NormFloat64()
				}
				if e := mean(x, alpha); e.Mean+smallest > e.Half {
					found++
				}
				smallest = Smallest(stat.StdDev(x, nil), n, alpha)
			}
			near(t, fmt.Sprintf("power of %d seeds in a family of %d", n, tests), float64(found)/trials, 0.8, 0.02)
		}
	}
}

// TestResolutionIsThatOfTheRule: with three arms a difference counts when it passes Holm's correction, and what three
// seeds resolve is 1.74 times what they would resolve of one arm alone. These are the perplexities of
// docs/results/books-50m, by seed.
func TestResolutionIsThatOfTheRule(t *testing.T) {
	base := []float64{195.640797, 182.887385, 191.120492}
	for _, c := range []struct {
		arm       string
		x         []float64
		alone, of float64 // if the scatter were as seen
	}{
		{"gta-4", []float64{191.612997, 181.685559, 199.992632}, 22.13, 38.43},
		{"mla", []float64{178.948859, 181.534916, 189.241341}, 28.42, 49.35},
		{"gla-2", []float64{156.977089, 163.240572, 157.675129}, 32.07, 55.69},
	} {
		one, three := Paired(c.x, base, 1), Paired(c.x, base, 3)
		error := stat.StdDev(one.Values, nil) / math.Sqrt(3)
		near(t, c.arm+" alone", newPower(3, 0.05).at(c.alone/error), 0.8, 0.002)
		near(t, c.arm+" of three", newPower(3, 0.05/3).at(c.of/error), 0.8, 0.002)
		near(t, c.arm+", not knowing the scatter, alone", one.Smallest/c.alone, 1.55, 0.01)
		near(t, c.arm+", not knowing the scatter, of three", three.Smallest/c.of, 1.57, 0.01)
	}
}

// TestIntervalsAreThoseOfTheFamily: where a difference is not found, its interval holds zero, whatever the values are.
func TestIntervalsAreThoseOfTheFamily(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 3000 {
		c := &Comparison{Baseline: "a", Sets: []string{"x", "y"}}
		for _, name := range []string{"a", "b", "c", "d"} {
			a := Arm{Name: name}
			for seed := range uint64(2 + r.IntN(4)) {
				a.Trials = append(a.Trials, Trial{
					Seed: seed, Perplexity: map[string]float64{"x": math.Exp(3 + 0.01*r.NormFloat64()),
						"y": math.Exp(3 + r.NormFloat64())}})
			}
			c.Arms = append(c.Arms, a)
		}
		if err := c.Score(); err != nil {
			t.Fatal(err)
		}
		for _, a := range c.Arms[1:] {
			for set, d := range a.Difference {
				if d.Tests != 6 {
					t.Fatalf("a family of %d, not of 3 arms and 2 sets", d.Tests)
				}
				if !d.Found() && math.Abs(d.Mean) > d.Half {
					t.Fatalf("no difference is found on %s, and %v ± %v is without zero", set, d.Mean, d.Half)
				}
			}
		}
	}
}
