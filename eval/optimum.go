package eval

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// An Optimum is where a parabola through losses over the logarithm of the learning rate has its least. Its interval
// holds the true one with a chance of 95%, and is missing where the losses do not bound it, and where they are too few
// to tell their scatter.
type Optimum struct {
	LR       float64     `json:"lr"`
	Loss     float64     `json:"loss"` // there, by the parabola
	Interval *[2]float64 `json:"interval,omitempty"`
	Open     bool        `json:"not_bounded,omitempty"` // the losses do not bound it
	Rates    int         `json:"rates"`                 // that the parabola goes through
}

// around is how many rates on either side of the best a parabola goes through. Farther ones tell more of how training
// fails than of where it does best.
const around = 2

// optimum fits a parabola to the rates next to the best, with all seeds that rates were tried with. Without one it says
// why.
func optimum(rates []Rate, seeds int) (o *Optimum, why string) {
	for _, r := range rates {
		seeds = max(seeds, len(r.NLL))
	}
	whole := slices.DeleteFunc(slices.Clone(rates), func(r Rate) bool {
		return len(r.Failures) > 0 || len(r.NLL) < max(1, seeds)
	})
	slices.SortFunc(whole, byRate)
	switch {
	case len(rates) < 3:
		return nil, fmt.Sprintf("no parabola: it takes three rates, and %d were tried", len(rates))
	case len(whole) < 3:
		return nil, fmt.Sprintf("no parabola: it takes three rates, and %d of %d finished with every seed",
			len(whole), len(rates))
	}
	best := BestRate(whole)
	p := newParabola(whole[max(0, best-around):min(len(whole), best+around+1)])
	if p.bend <= 0 {
		return nil, "no parabola: the losses do not bend upward around the best rate"
	}
	return p.optimum(), ""
}

// A parabola is level + slope·u + bend·(u² - skew·u - mean square), where u is the logarithm of the rate as seen
// from the middle of those tried. These terms are orthogonal. A seed raises or lowers it as a whole.
type parabola struct {
	rates, freedom                        int
	middle, skew, square                  float64
	level, slope, bend                    float64
	slopeVariance, bendVariance, residual float64 // of the two by that of a loss, and that of a loss
}

func newParabola(rates []Rate) (p parabola) {
	p.rates = len(rates)
	n, seeds := float64(len(rates)), float64(len(rates[0].NLL))
	u := make([]float64, len(rates))
	for i, r := range rates {
		u[i] = math.Log(r.LR)
		p.middle += u[i] / n
	}
	var second, third float64
	for i := range u {
		u[i] -= p.middle
		second, third = second+u[i]*u[i], third+u[i]*u[i]*u[i]
	}
	p.skew, p.square = third/second, second/n
	bent := make([]float64, len(u))
	fourth := 0.0
	for i := range u {
		bent[i] = u[i]*u[i] - p.skew*u[i] - p.square
		fourth += bent[i] * bent[i]
	}
	p.slopeVariance, p.bendVariance = 1/second/seeds, 1/fourth/seeds
	of := make([]float64, len(rates[0].NLL)) // the mean by seed
	for i, r := range rates {
		for s, loss := range r.NLL {
			of[s] += loss / n
			p.level += loss / n / seeds
			p.slope += loss * u[i] * p.slopeVariance
			p.bend += loss * bent[i] * p.bendVariance
		}
	}
	for i, r := range rates {
		for s, loss := range r.NLL {
			rest := loss - of[s] - p.slope*u[i] - p.bend*bent[i]
			p.residual += rest * rest
		}
	}
	if p.freedom = len(of)*(len(rates)-1) - 2; p.freedom > 0 {
		p.residual /= float64(p.freedom)
	}
	return p
}

// optimum is where the parabola is level. Its interval are the rates at which the slope is none by Student's t test
// (Fieller), which has ends only where the bend is one.
func (p parabola) optimum() *Optimum {
	from := p.middle + p.skew/2 // a slope is slope + 2·bend·(u - from)
	at := -p.slope / (2 * p.bend)
	u := at + p.skew/2
	o := &Optimum{LR: math.Exp(from + at), Loss: p.level + p.slope*u + p.bend*(u*u-p.skew*u-p.square), Rates: p.rates}
	if p.freedom < 1 {
		return o
	}
	t := critical(p.freedom, significant)
	v := t * t * p.residual
	a, b, c := 4*(p.bend*p.bend-v*p.bendVariance), 4*p.slope*p.bend, p.slope*p.slope-v*p.slopeVariance
	if o.Open = a <= 0; o.Open {
		return o
	}
	root := math.Sqrt(max(0, b*b-4*a*c))
	o.Interval = &[2]float64{math.Exp(from + (-b-root)/(2*a)), math.Exp(from + (-b+root)/(2*a))}
	return o
}

// MostBeyond is how many rates a comparison adds at most on either side of those that it names.
const MostBeyond = 4

// Sides where a better learning rate may lie than any that was tried.
const (
	Lower  = "lower"
	Higher = "higher"
)

// Edge says on which side of the rates a better one may lie: beyond the best where it is the first or the last of them,
// or where the parabola has its least. It is empty where the optimum is inside. A rate that some run failed with bounds
// the optimum.
func Edge(rates []Rate, seeds int) string {
	best := BestRate(rates)
	if best < 0 || len(rates) < 2 {
		return ""
	}
	least, most := slices.MinFunc(rates, byRate).LR, slices.MaxFunc(rates, byRate).LR
	at := []float64{rates[best].LR}
	if at[0] > least && at[0] < most {
		if o, _ := optimum(rates, seeds); o != nil {
			at = append(at, o.LR)
		}
	}
	switch last := at[len(at)-1]; {
	case last <= least && !failed(rates, least):
		return Lower
	case last >= most && !failed(rates, most):
		return Higher
	}
	return ""
}

func failed(rates []Rate, lr float64) bool {
	return slices.ContainsFunc(rates, func(r Rate) bool { return r.LR == lr && len(r.Failures) > 0 })
}

func byRate(a, b Rate) int { return cmp.Compare(a.LR, b.LR) }
