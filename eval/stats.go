package eval

import (
	"math"
	"slices"
	"sync"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// significant is the chance of a false finding that a family of tests may have. One minus it is the coverage of every interval in this
// package: of each alone, or of all of a family together.
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

// A Difference is the mean of paired differences, and how often chance alone makes one as large. Its interval is one of a family: that all
// of them hold their true means has a chance of 95% at least (Bonferroni). It leaves zero out only where the difference is found.
type Difference struct {
	Estimate
	Values   []float64   `json:"by_seed"`            // in the order of the seeds
	Tests    int         `json:"tests,omitempty"`    // of the family
	P        float64     `json:"p,omitempty"`        // two-sided, after Holm's correction over the family; of one pair there is none
	Smallest float64     `json:"smallest,omitempty"` // the true difference that so many pairs find in 80% of trials, whatever the others of the family are
	Between  *[2]float64 `json:"smallest_interval,omitempty"`
	Text     *Text       `json:"text,omitempty"`
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
	d.Tests, d.P = tests, pValue(d.Mean, sd, d.N)
	if d.Smallest = Smallest(sd, d.N, alpha); d.Smallest > 0 {
		low, high := Scatter(d.N)
		d.Between = &[2]float64{low * d.Smallest, high * d.Smallest}
	}
	return d
}

// Found says whether the difference is one, by its p, which after Holm is that of the whole family.
func (d Difference) Found() bool { return d.N > 1 && d.P < significant }

func pValue(mean, sd float64, n int) float64 {
	if mean == 0 {
		return 1
	}
	t := math.Abs(mean) / (sd / math.Sqrt(float64(n))) // +Inf where all differences are equal
	return 2 * student(n-1).Survival(t)
}

func student(freedom int) distuv.StudentsT {
	return distuv.StudentsT{Sigma: 1, Nu: float64(freedom)}
}

// critical is what Student's t exceeds in size with the chance alpha.
func critical(freedom int, alpha float64) float64 { return student(freedom).Quantile(1 - alpha/2) }

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

// Scatter is the 95% interval of a true standard deviation as a part of one estimated from n values, which is wide for few: from half to
// six times of three.
func Scatter(n int) (low, high float64) {
	chi := distuv.ChiSquared{K: float64(n - 1)}
	return math.Sqrt(chi.K / chi.Quantile(1-significant/2)), math.Sqrt(chi.K / chi.Quantile(significant/2))
}

// Smallest is the smallest true mean that a t-test at alpha on n values of standard deviation sd finds in 80% of trials. For a difference
// of a family that Holm corrects, alpha is what the least of its p must pass: the others may all be none.
func Smallest(sd float64, n int, alpha float64) float64 {
	type key struct {
		n     int
		alpha float64
	}
	shift, known := shifts.Load(key{n, alpha})
	if !known {
		shift = smallestShift(n, alpha)
		shifts.Store(key{n, alpha}, shift)
	}
	return shift.(float64) * sd / math.Sqrt(float64(n))
}

var shifts sync.Map // what smallestShift gave

// smallestShift is Smallest in standard errors. A t statistic whose mean lies shift standard errors from zero passes the critical value
// with the chance E[Φ(shift - critical·s)], where s is the estimated over the true standard deviation, s² ~ χ²/(n-1).
func smallestShift(n int, alpha float64) float64 {
	chi := distuv.ChiSquared{K: float64(n - 1)}
	limits := make([]float64, 400) // critical·s at equal steps of probability
	for i := range limits {
		s := math.Sqrt(chi.Quantile((float64(i)+0.5)/float64(len(limits))) / chi.K)
		limits[i] = critical(n-1, alpha) * s
	}
	power := func(shift float64) (p float64) {
		for _, limit := range limits {
			p += distuv.UnitNormal.CDF(shift-limit) / float64(len(limits))
		}
		return p
	}
	low, high := 0.0, 10*limits[len(limits)-1]
	for range 60 {
		if mid := (low + high) / 2; power(mid) < 0.8 {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}
