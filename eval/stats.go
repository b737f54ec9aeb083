package eval

import (
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// level is the coverage of every interval in this package.
const level = 0.95

// An Estimate is a mean over seeds with its 95% interval, mean ± half. One value alone has no interval: half is 0.
type Estimate struct {
	Mean float64 `json:"mean"`
	Half float64 `json:"half,omitempty"`
	N    int     `json:"n"`
}

// Mean estimates the mean behind a sample by Student's t. An empty sample has N 0.
func Mean(x []float64) Estimate {
	e := Estimate{N: len(x)}
	switch {
	case e.N == 1:
		e.Mean = x[0]
	case e.N > 1:
		var sd float64
		e.Mean, sd = stat.MeanStdDev(x, nil)
		e.Half = quantile(e.N-1, (1+level)/2) * sd / math.Sqrt(float64(e.N))
	}
	return e
}

// A Difference is the mean of paired differences, and how often chance alone makes one as large.
type Difference struct {
	Estimate
	Low      float64 `json:"bootstrap_low,omitempty"` // 95% interval from resampling the pairs, which is too narrow for few
	High     float64 `json:"bootstrap_high,omitempty"`
	P        float64 `json:"p,omitempty"`        // two-sided; of one pair there is none
	Smallest float64 `json:"smallest,omitempty"` // the true difference that so many pairs find in 80% of trials
}

// Paired compares x to y by their differences x[i] - y[i], which belong to one seed each: what the seed does to both
// cancels.
func Paired(x, y []float64) Difference {
	if len(x) != len(y) {
		panic("eval: pairs of different lengths")
	}
	diff := make([]float64, len(x))
	for i := range x {
		diff[i] = x[i] - y[i]
	}
	d := Difference{Estimate: Mean(diff)}
	if d.N < 2 {
		return d
	}
	sd := stat.StdDev(diff, nil)
	d.P, d.Smallest = pValue(d.Mean, sd, d.N), Smallest(sd, d.N)
	d.Low, d.High = Bootstrap(diff, resamples, 1)
	return d
}

// significant is the p below which a difference counts as found. Without correction that is where the 95% interval leaves
// zero out.
const significant = 0.05

// Found says whether the difference is one, by its p, which after Holm is that of all arms together.
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

func quantile(freedom int, p float64) float64 { return student(freedom).Quantile(p) }

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

// resamples makes the ends of an interval as sure as they are worth.
const resamples = 10_000

// Bootstrap is the 95% interval of the mean from resampling with replacement, the same for the same seed.
func Bootstrap(x []float64, resamples int, seed uint64) (low, high float64) {
	r := rand.New(rand.NewPCG(seed, 0))
	means := make([]float64, resamples)
	for i := range means {
		for range x {
			means[i] += x[r.IntN(len(x))] / float64(len(x))
		}
	}
	slices.Sort(means)
	return stat.Quantile((1-level)/2, stat.Empirical, means, nil), stat.Quantile((1+level)/2, stat.Empirical, means, nil)
}

// Smallest is the smallest true mean that a t-test at 5% on n values of standard deviation sd finds in 80% of trials. A t
// statistic whose mean lies shift standard errors from zero passes the critical value with the chance
// E[Φ(shift - critical·s)], where s is the estimated over the true standard deviation, s² ~ χ²/(n-1).
func Smallest(sd float64, n int) float64 {
	chi := distuv.ChiSquared{K: float64(n - 1)}
	critical := quantile(n-1, (1+level)/2)
	limits := make([]float64, 400) // critical·s at equal steps of probability
	for i := range limits {
		s := math.Sqrt(chi.Quantile((float64(i)+0.5)/float64(len(limits))) / chi.K)
		limits[i] = critical * s
	}
	power := func(shift float64) (p float64) {
		for _, limit := range limits {
			p += distuv.UnitNormal.CDF(shift-limit) / float64(len(limits))
		}
		return p
	}
	low, high := 0.0, 1000.0
	for range 50 {
		if mid := (low + high) / 2; power(mid) < 0.8 {
			low = mid
		} else {
			high = mid
		}
	}
	return high * sd / math.Sqrt(float64(n))
}
