package eval

import (
	"math"
	"math/rand/v2"
	"slices"
)

// lawLevel is the chance that the intervals of a law leave a true value out.
const lawLevel = 0.10

// cells are losses by arm, size and seed; a seed at a size stands at the same place for every arm, so that what it does
// to all is kept.
type cells [][][]float64

func (c cells) means() (all [][]float64) {
	for _, arm := range c {
		var row []float64
		for _, seeds := range arm {
			row = append(row, over(0, seeds).mean)
		}
		all = append(all, row)
	}
	return all
}

// A fitted scaling with what it leaves of the losses.
type fitted struct {
	sweep
	scaling
	rest       [][]float64 // by seed at a size, then arm, scaled to the deviation of true ones
	covariance [][]float64 // by arm
	misses     float64     // see missed
}

// freedom is the degrees of freedom of each arm's residuals.
func (s *sweep) freedom() float64 {
	n := 0.0
	for _, k := range s.runs {
		n += k
	}
	return n - 2 - 1/float64(len(s.logx))
}

// fitLaw fits the losses, and keeps their residuals.
func fitLaw(s sweep, c cells) (f fitted, ok bool) {
	f.sweep = s
	if f.scaling, ok = s.fit(c.means()); !ok {
		return f, false
	}
	f.residuals(c)
	return f, true
}

// residuals are the differences of losses from the law.
func (f *fitted) residuals(c cells) {
	f.rest, f.covariance = nil, make([][]float64, len(c))
	for i := range f.covariance {
		f.covariance[i] = make([]float64, len(c))
	}
	for size := range f.runs {
		for seed := range c[0][size] {
			r := make([]float64, len(c))
			for arm := range c {
				r[arm] = c[arm][size][seed] - f.at(arm, f.logx[arm][size])
			}
			f.rest = append(f.rest, r)
			for i := range r {
				for j := range r {
					f.covariance[i][j] += r[i] * r[j] / f.freedom()
				}
			}
		}
	}
	f.misses = f.missed(c)
	wide := math.Sqrt(float64(len(f.rest)) / f.freedom())
	for _, r := range f.rest {
		for i := range r {
			r[i] *= wide
		}
	}
}

// missed are the squares of what mean losses miss the law by, as a part of those of the seeds around their means.
func (f *fitted) missed(c cells) float64 {
	sizes, seeds := 0.0, 0.0
	for arm, row := range c {
		for size, losses := range row {
			mean := over(0, losses).mean
			miss := mean - f.at(arm, f.logx[arm][size])
			sizes += f.runs[size] * miss * miss
			for _, loss := range losses {
				seeds += (loss - mean) * (loss - mean)
			}
		}
	}
	return sizes / seeds
}

// A target is what an interval is asked for: the speed-up of an arm, or the mean loss of so many new runs of it.
type target struct {
	arm   int
	logx  float64
	runs  float64 // 0 is the speed-up
	alpha float64 // the chance that its interval may leave it out
}

func (f *fitted) estimate(t target) float64 {
	if t.runs == 0 {
		return f.speedup(t.arm, t.logx)
	}
	return f.at(t.arm, t.logx)
}

func (f *fitted) error(t target) float64 {
	if t.runs == 0 {
		return f.deviation(&f.scaling, f.ofSpeedup(t.arm, t.logx), f.covariance)
	}
	own := math.Sqrt(f.covariance[t.arm][t.arm] / t.runs)
	return math.Hypot(f.deviation(&f.scaling, f.ofLoss(t.arm, t.logx), f.covariance), own)
}

// halves are half the widths of symmetric intervals, by the studentized bootstrap: seeds at all sizes are drawn anew
// around the law, the law is fitted again, and the distance from what is known then is counted in standard errors.
// Infinity stands where too many of these laws have no value. Beside them stands how many of these laws miss their
// sizes by as much as this one missed its own, as a part.
func (f *fitted) halves(targets []target, resamples int) (halves []float64, missing float64) {
	r := rand.New(rand.NewPCG(1, uint64(len(f.rest))))
	far := make([][]float64, len(targets))
	drawn := make(cells, len(f.a))
	for arm := range drawn {
		for _, n := range f.runs {
			drawn[arm] = append(drawn[arm], make([]float64, int(n)))
		}
	}
	more := 0
	for range resamples {
		again := f.again(drawn, r)
		if !(again.misses < f.misses) {
			more++
		}
		for i, t := range targets {
			fresh := 0.0
			for range int(t.runs) {
				fresh += f.scatter(r)[t.arm] / t.runs
			}
			d := math.Abs(again.estimate(t)-f.estimate(t)-fresh) / again.error(t)
			if math.IsNaN(d) || !again.falls() {
				d = math.Inf(1)
			}
			far[i] = append(far[i], d)
		}
	}
	for i, t := range targets {
		slices.Sort(far[i])
		last := min(resamples-1, int(math.Ceil((1-t.alpha)*float64(resamples+1)))-1)
		halves = append(halves, far[i][last]*f.error(t))
	}
	return halves, float64(more+1) / float64(resamples+1)
}

// again draws losses around the law into cells, and fits them.
func (f *fitted) again(drawn cells, r *rand.Rand) fitted {
	for size, n := range f.runs {
		for seed := range int(n) {
			rest := f.scatter(r)
			for arm := range drawn {
				drawn[arm][size][seed] = f.at(arm, f.logx[arm][size]) + rest[arm]
			}
		}
	}
	again := fitted{sweep: f.sweep, scaling: scaling{f.e, slices.Clone(f.a), slices.Clone(f.b), false}}
	means, least := drawn.means(), math.Inf(1)
	for _, row := range means {
		least = min(least, slices.Min(row))
	}
	again.e = min(again.e, 0.998*least)
	again.descend(&again.scaling, means, least)
	again.residuals(drawn)
	return again
}

// scatter draws what chance does to the runs of one seed: a normal value for each arm, with the covariance of what the
// fit leaves. Rests drawn as they are, with replacement, are so few that intervals of three sizes held 92% of true
// values instead of 90.
func (f *fitted) scatter(r *rand.Rand) []float64 {
	sum := make([]float64, len(f.a))
	for _, rest := range f.rest {
		g := r.NormFloat64() / math.Sqrt(float64(len(f.rest)))
		for arm, v := range rest {
			sum[arm] += g * v
		}
	}
	return sum
}
