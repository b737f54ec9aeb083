package eval

import (
	"math"
	"slices"
	"sync"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// significant is the chance of a false finding that a family of tests may have. One minus it is the coverage of every
// interval in this package: of each alone, or of all of a family together.
const significant = 0.05

// An Estimate is a mean over seeds with its 95% interval, mean ± half. One value alone has no interval: half is 0.
type Estimate struct {
	Mean float64 `json:"mean"`
	Half float64 `json:"half,omitempty"`
	N    int     `json:"n"`
}

// Mean estimates the mean behind a sample by Student's t. An empty sample has N 0.
func Mean(x []float64) Estimate { return mean(x, significant) }

// mean is Mean with an interval that leaves the true mean out with the chance alpha.
func mean(x []float64, alpha float64) Estimate {
	e := Estimate{N: len(x)}
	switch {
	case e.N == 1:
		e.Mean = x[0]
	case e.N > 1:
		var sd float64
		e.Mean, sd = stat.MeanStdDev(x, nil)
		e.Half = critical(e.N-1, alpha) * sd / math.Sqrt(float64(e.N))
	}
	return e
}

// A Difference is the mean of paired differences, and how often chance alone makes one as large. Its interval is one of
// a family: that all of them hold their true means has a chance of 95% at least (Bonferroni). It leaves zero out only
// where the difference is found.
type Difference struct {
	Estimate
	Values []float64 `json:"by_seed"`         // in the order of the seeds
	Tests  int       `json:"tests,omitempty"` // of the family
	// two-sided, after Holm's correction over the family; of one pair there is none
	P float64 `json:"p,omitempty"`
	// the true difference that so many new pairs find in 80% of trials, whatever the others of the family are
	Smallest float64 `json:"smallest,omitempty"`
	Text     *Text   `json:"text,omitempty"`
}

// Paired compares x to y by their differences x[i] - y[i], which belong to one seed each: what the seed does to both
// cancels. It is one of a family of tests, and its P is not corrected yet.
func Paired(x, y []float64, tests int) Difference {
	if len(x) != len(y) {
		panic("eval: pairs of different lengths")
	}
	diff := make([]float64, len(x))
	for i := range x {
		diff[i] = x[i] - y[i]
	}
	alpha := significant / float64(tests)
	d := Difference{Estimate: mean(diff, alpha), Values: diff}
	if d.N < 2 {
		return d
	}
	sd := stat.StdDev(diff, nil)
	d.Tests, d.P, d.Smallest = tests, pValue(d.Mean, sd, d.N), Smallest(sd, d.N, alpha)
	return d
}

// Found says whether the difference is one, by its p, which after Holm is that of the whole family.
func (d Difference) Found() bool { return d.N > 1 && d.P < significant }

func pValue(mean, sd float64, n int) float64 {
	if mean == 0 {
		return 1
	}
	t := math.Abs(mean) / (sd / math.Sqrt(float64(n))) // +Inf where all differences are equal
	return 2 * student(float64(n-1)).Survival(t)
}

func student(freedom float64) distuv.StudentsT {
	return distuv.StudentsT{Sigma: 1, Nu: freedom}
}

// critical is what Student's t exceeds in size with the chance alpha.
func critical(freedom int, alpha float64) float64 {
	type key struct {
		freedom int
		alpha   float64
	}
	t, known := criticals.Load(key{freedom, alpha})
	if !known {
		t = student(float64(freedom)).Quantile(1 - alpha/2)
		criticals.Store(key{freedom, alpha}, t)
	}
	return t.(float64)
}

var criticals sync.Map // what critical gave

// Holm corrects the p-values of several comparisons for their number: if every one below 0.05 after it counts as found,
// the chance of even one false finding stays below 0.05.
func Holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if p[a] < p[b] {
			return -1
		}
		return 1
	})
	corrected := make([]float64, len(p))
	largest := 0.0
	for rank, i := range order {
		largest = max(largest, min(1, p[i]*float64(len(p)-rank)))
		corrected[i] = largest
	}
	return corrected
}

// Smallest is the true mean that a t-test at alpha on n new values finds in 80% of trials, where sd is what n values
// like these have shown of their scatter. Few values show it badly, so this is more than what a known scatter of that
// size would need: 2.4 times at two values, 1.6 at three, 1.1 at ten. For a difference of a family that Holm corrects,
// alpha is what the least of its p must pass: the others may all be none.
func Smallest(sd float64, n int, alpha float64) float64 {
	type key struct {
		n     int
		alpha float64
	}
	times, known := resolutions.Load(key{n, alpha})
	if !known {
		times = newPower(n, alpha).resolution()
		resolutions.Store(key{n, alpha}, times)
	}
	return times.(float64) * sd / math.Sqrt(float64(n))
}

var resolutions sync.Map // what resolution gave

// power is how often a t-test finds a mean.
type power struct {
	// the estimated over the true standard deviation, s with s² ~ χ²/(n-1), at equal steps of probability
	scatter []float64
	limit   float64 // of t
}

func newPower(n int, alpha float64) power {
	chi := distuv.ChiSquared{K: float64(n - 1)}
	p := power{make([]float64, 200), critical(n-1, alpha)}
	for i := range p.scatter {
		p.scatter[i] = math.Sqrt(chi.Quantile((float64(i)+0.5)/float64(len(p.scatter))) / chi.K)
	}
	return p
}

// at is the chance that a t statistic whose mean lies shift true standard errors above zero passes the limit:
// E[Φ(shift
// - limit·s)].
func (p power) at(shift float64) (chance float64) {
	for _, s := range p.scatter {
		chance += distuv.UnitNormal.CDF(shift-p.limit*s) / float64(len(p.scatter))
	}
	return chance
}

// resolution is how many standard errors, each estimated from other values than those of the test, are found in 80% of
// trials.
func (p power) resolution() float64 {
	mean := func(times float64) (chance float64) {
		for _, s := range p.scatter {
			chance += p.at(times*s) / float64(len(p.scatter))
		}
		return chance
	}
	return reaches(mean, 0.8)
}

// reaches is where a rising function of positive numbers reaches a value.
func reaches(f func(float64) float64, value float64) float64 {
	low, high := 0.0, 1.0
	for f(high) < value {
		low, high = high, 2*high
	}
	for range 40 {
		if mid := (low + high) / 2; f(mid) < value {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}
