package eval

import (
	"fmt"
	"math"
	"slices"
)

// A Law is loss = E + A·(C/C0)^-a on one set, over the sizes of a comparison: C is the FLOPs of a training, C0 those
// of the baseline at the largest size. A and a are each arm's own; E, what no compute takes away, is shared.
type Law struct {
	Set   string   `json:"set"`
	None  string   `json:"no_law,omitempty"` // why there is no law; nothing of what follows is there then
	Sizes []string `json:"sizes,omitempty"`  // by rising FLOPs
	Seeds []int    `json:"seeds,omitempty"`  // by size
	C0    float64  `json:"c0_flops,omitempty"`
	E     float64  `json:"e"`
	// the chance that sizes that follow a law miss their fit by as much; 0 is unknown
	Misfit float64  `json:"misfit_p,omitempty"`
	AtEdge bool     `json:"e_at_edge,omitempty"` // the best E lies outside its range, which begins at 0
	Arms   []LawArm `json:"arms,omitempty"`      // the baseline first
	Notes  []string `json:"notes,omitempty"`     // data that are left out, and evidence against the law
}

// A LawArm is the law of one arm.
type LawArm struct {
	Name     string      `json:"name"`
	A        float64     `json:"a_nats"` // the loss above E at C0
	Exponent float64     `json:"exponent"`
	Speedup  *Speedup    `json:"speedup,omitempty"` // nil for the baseline, and where the fit does not determine it
	Held     *Prediction `json:"held,omitempty"`    // of the largest size, by the law of all others
	Next     *Prediction `json:"next,omitempty"`    // of a size as far beyond the largest as that is beyond the one before
}

// A Speedup is how many times the FLOPs of an arm's largest training the baseline needs for the same loss, by the law.
// The intervals of all arms on all sets together leave no true value out, with a chance of 90%.
type Speedup struct {
	Times    float64     `json:"times"`
	Interval *[2]float64 `json:"interval,omitempty"`
}

// Resolved says that the interval leaves out one.
func (s *Speedup) Resolved() bool {
	return s != nil && s.Interval != nil && (s.Interval[0] > 1 || s.Interval[1] < 1)
}

// A Prediction is the mean loss that so many new runs should have, with its 90% interval. Where such runs exist, it has
// their loss too.
type Prediction struct {
	Size     string      `json:"size,omitempty"` // empty is none that the comparison has
	FLOPs    float64     `json:"flops"`
	Runs     int         `json:"runs"`
	Loss     float64     `json:"predicted"`
	Interval *[2]float64 `json:"interval,omitempty"`
	Measured float64     `json:"measured,omitempty"`
	Inside   *bool       `json:"inside_the_interval,omitempty"` // nil without a measurement or an interval
}

const (
	lawResamples = 1_999 // of a bootstrap
	mostSpeedup  = 1_000 // a fit with a larger speed-up, or one below its inverse, determines none
	leastFreedom = 2     // the least degrees of freedom of a fit, below which its scatter is not known
)

// unfitted says of losses that each arm has less of at its largest size than at its smallest why they still have no
// law.
const unfitted = "no curve of this form that falls with FLOPs goes through the losses"

// laws fits a law to every set. A comparison without sizes has none; one with sizes says for every set why where it has
// none.
func (c *Comparison) laws(resamples int) (all []Law) {
	if sizes := c.sizes(); len(sizes) == 1 && sizes[0] == "" {
		return nil
	}
	var ladders []ladder
	speedups := 0
	for _, set := range c.Sets {
		l, why := c.ladder(set)
		if why == "" {
			speedups += len(l.arms) - 1
		}
		ladders, all = append(ladders, l), append(all, Law{Set: set, None: why})
	}
	for i, l := range ladders {
		if all[i].None == "" {
			all[i] = l.law(resamples, lawLevel/float64(max(1, speedups)))
		}
	}
	return all
}

// law fits the ladder. Its intervals of speed-ups leave a true one out with the chance alpha each.
func (l ladder) law(resamples int, alpha float64) Law {
	f, ok := fitLaw(l.sweep(), l.losses)
	if !ok {
		return Law{Set: l.set, None: unfitted}
	}
	top := len(l.sizes) - 1
	law := Law{Set: l.set, Sizes: l.sizes, C0: l.flops[0][top], E: f.e, AtEdge: f.held, Notes: l.notes}
	for _, seeds := range l.seeds {
		law.Seeds = append(law.Seeds, len(seeds))
	}
	for i, name := range l.arms {
		law.Arms = append(law.Arms, LawArm{Name: name, A: f.at(i, f.logx[0][top]) - f.e, Exponent: f.b[i]})
	}
	if law.AtEdge {
		law.Notes = append(law.Notes, "WARNING: E lies at the edge of what it may be, from 0 to the least loss: "+
			"these sizes do not tell where losses level off, and exponents depend on it")
	}
	if !f.known() {
		law.Notes = append(law.Notes,
			"too few runs for an interval: more seeds, or more sizes, tell what a law is worth")
	}
	f.foresee(&law, l, resamples, alpha)
	l.predictLargest(&law, resamples)
	return law
}

// known says that the fit has enough degrees of freedom for its scatter, and so for intervals.
func (f *fitted) known() bool { return f.freedom() >= leastFreedom }

// intervals are half the widths of those of the targets, not a number where the fit does not tell one.
func (f *fitted) intervals(targets []target, resamples int) (halves []float64, missing float64) {
	if f.known() {
		return f.halves(targets, resamples)
	}
	none := make([]float64, len(targets))
	for i := range none {
		none[i] = math.NaN()
	}
	return none, 0
}

// foresee finds the speed-up of every arm but the first at its largest size, and predicts as many runs of every arm as
// the largest size has, as much further as the sizes are apart.
func (f *fitted) foresee(law *Law, l ladder, resamples int, alpha float64) {
	top := len(l.sizes) - 1
	var targets []target
	for i, row := range l.flops {
		step := math.Pow(row[top]/row[0], 1/float64(top))
		targets = append(targets, f.losses(l, i, step*row[top], len(l.seeds[top])))
		if i > 0 {
			targets = append(targets, target{i, f.logx[i][top], 0, alpha})
		}
	}
	halves, missing := f.intervals(targets, resamples)
	for k, half := range halves {
		t := targets[k]
		if a := &law.Arms[t.arm]; t.runs == 0 {
			a.Speedup = speedup(f.estimate(t), half)
		} else {
			a.Next = f.predict(l, t, half)
		}
	}
	more := len(l.arms)*(len(l.sizes)-2) - 1 // mean losses than the law has parameters
	if more < 1 || missing == 0 || math.IsInf(f.misses, 1) || math.IsNaN(f.misses) {
		return
	}
	if law.Misfit = missing; missing < significant {
		law.Notes = append(law.Notes, fmt.Sprintf("WARNING: the sizes miss the law by more than their seeds scatter "+
			"(p %.2g; chance does so at most one time in twenty): their losses may have another form, and the intervals "+
			"know nothing of that", missing))
	}
}

// speedup is nil where the logarithm of one lies so far out that the fit says nothing. Its interval is missing where an
// end of it does.
func speedup(log, half float64) *Speedup {
	farthest := math.Log(mostSpeedup)
	if !(math.Abs(log) <= farthest) {
		return nil
	}
	s := &Speedup{Times: math.Exp(log)}
	if math.Abs(log)+half <= farthest {
		s.Interval = &[2]float64{math.Exp(log - half), math.Exp(log + half)}
	}
	return s
}

// losses are the mean of so many runs of an arm that train with so many FLOPs.
func (f *fitted) losses(l ladder, arm int, flops float64, runs int) target {
	return target{arm, math.Log(flops) - l.middle(), float64(runs), lawLevel}
}

func (f *fitted) predict(l ladder, t target, half float64) *Prediction {
	p := &Prediction{FLOPs: math.Exp(t.logx + l.middle()), Runs: int(t.runs), Loss: f.estimate(t)}
	if !math.IsNaN(half) && !math.IsInf(half, 0) {
		p.Interval = &[2]float64{p.Loss - half, p.Loss + half}
	}
	return p
}

// predictLargest predicts the largest size from the others, and compares the measurement with that.
func (l ladder) predictLargest(law *Law, resamples int) {
	top := len(l.sizes) - 1
	if top < LeastSizes {
		law.Notes = append(law.Notes,
			fmt.Sprintf("no size is held against a prediction of the others: that takes %d sizes", LeastSizes+1))
		return
	}
	below := l.below(top)
	f, ok := fitLaw(below.sweep(), below.losses)
	if !ok {
		law.Notes = append(law.Notes, fmt.Sprintf("%s is not held against a prediction: %s", l.sizes[top], unfitted))
		return
	}
	var targets []target
	for i, row := range l.flops {
		targets = append(targets, f.losses(below, i, row[top], len(l.seeds[top])))
	}
	halves, _ := f.intervals(targets, resamples)
	for i, half := range halves {
		p := f.predict(below, targets[i], half)
		p.Size, p.Measured = l.sizes[top], over(0, l.losses[i][top]).mean
		if p.Interval != nil {
			inside := p.Measured >= p.Interval[0] && p.Measured <= p.Interval[1]
			p.Inside = &inside
		}
		law.Arms[i].Held = p
	}
}

// fits says that a comparison has a law on some set.
func (c *Comparison) fits() bool {
	return slices.ContainsFunc(c.Laws, func(l Law) bool { return l.None == "" })
}
