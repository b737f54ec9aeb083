package eval

import "math"

// A scaling is loss = e + exp(a)·x^-b for each arm, where x is the arm's training FLOPs as a part of a common
// reference, and e is shared.
type scaling struct {
	e    float64
	a, b []float64 // by arm
	held bool      // e lies at the edge of its range, and does not move with the losses
}

func (l *scaling) at(arm int, logx float64) float64 { return l.e + math.Exp(l.a[arm]-l.b[arm]*logx) }

// speedup is the logarithm of how many times an arm's FLOPs the first arm needs for the same loss.
func (l *scaling) speedup(arm int, logx float64) float64 {
	return (l.a[0]-l.a[arm]+l.b[arm]*logx)/l.b[0] - logx
}

// A direction has a value for each parameter of a scaling.
type direction struct {
	e    float64
	a, b []float64
}

// ofSpeedup is the gradient of speedup.
func (l *scaling) ofSpeedup(arm int, logx float64) direction {
	d := direction{0, make([]float64, len(l.a)), make([]float64, len(l.a))}
	d.a[0] += 1 / l.b[0]
	d.b[0] -= (l.a[0] - l.a[arm] + l.b[arm]*logx) / (l.b[0] * l.b[0])
	d.a[arm] -= 1 / l.b[0]
	d.b[arm] += logx / l.b[0]
	return d
}

// ofLoss is the gradient of at.
func (l *scaling) ofLoss(arm int, logx float64) direction {
	d := direction{1, make([]float64, len(l.a)), make([]float64, len(l.a))}
	d.a[arm] = l.at(arm, logx) - l.e
	d.b[arm] = -logx * d.a[arm]
	return d
}

// A sweep is what a scaling is fitted to: mean losses of every arm at every size.
type sweep struct {
	logx [][]float64 // by arm and size
	runs []float64   // by size: of how many seeds a loss is the mean
}

// fit finds the scaling of least squares, from several beginnings. It is false where there is none that falls with
// FLOPs.
func (s *sweep) fit(loss [][]float64) (best scaling, ok bool) {
	least, error := math.Inf(1), math.Inf(1)
	for _, row := range loss {
		for _, y := range row {
			least = min(least, y)
		}
	}
	for _, part := range []float64{0, 0.3, 0.6, 0.85} {
		l := s.straight(loss, part*least)
		if s.descend(&l, loss, least); s.error(&l, loss) < error {
			best, error = l, s.error(&l, loss)
		}
	}
	return best, !math.IsInf(error, 1) && best.falls()
}

func (l *scaling) falls() bool {
	for _, b := range l.b {
		if !(b > 1e-4) {
			return false
		}
	}
	return true
}

// straight fits lines to the logarithms of what lies above e.
func (s *sweep) straight(loss [][]float64, e float64) scaling {
	l := scaling{e: e}
	for arm, row := range loss {
		var n, x, y, xx, xy float64
		for size, at := range s.logx[arm] {
			w, v := s.runs[size], math.Log(row[size]-e)
			n, x, y, xx, xy = n+w, x+w*at, y+w*v, xx+w*at*at, xy+w*at*v
		}
		slope := (n*xy - x*y) / (n*xx - x*x)
		l.a, l.b = append(l.a, (y-slope*x)/n), append(l.b, -slope)
	}
	return l
}

func (s *sweep) error(l *scaling, loss [][]float64) (sum float64) {
	for arm, row := range loss {
		for size, y := range row {
			r := y - l.at(arm, s.logx[arm][size])
			sum += s.runs[size] * r * r
		}
	}
	if math.IsNaN(sum) {
		return math.Inf(1)
	}
	return sum
}

// descend takes Gauss-Newton steps, halved where they do not help, until none does. e stays from 0 to below the least
// loss.
func (s *sweep) descend(l *scaling, loss [][]float64, least float64) {
	error := s.error(l, loss)
	for range 60 {
		downhill := direction{0, make([]float64, len(loss)), make([]float64, len(loss))}
		for arm, row := range loss {
			for size, y := range row {
				m := l.at(arm, s.logx[arm][size]) - l.e
				r := s.runs[size] * (y - l.e - m)
				downhill.e += r
				downhill.a[arm] += r * m
				downhill.b[arm] -= r * m * s.logx[arm][size]
			}
		}
		l.held = false
		step := s.solve(l, downhill)
		if e := l.e + step.e; e <= 0 || e >= 0.999*least {
			l.held = l.e <= 0 || l.e >= 0.999*least
			if l.held {
				step = s.solve(l, downhill)
			} else {
				step = step.times((min(max(e, 0), 0.999*least) - l.e) / step.e)
			}
		}
		before := error
		for range 12 {
			next := scaling{e: l.e + step.e, a: plus(l.a, step.a), b: plus(l.b, step.b), held: l.held}
			if after := s.error(&next, loss); after < error {
				*l, error = next, after
				break
			}
			step = step.times(0.5)
		}
		if !(before-error > 1e-10*error) {
			return
		}
	}
}

func plus(x, y []float64) []float64 {
	sum := make([]float64, len(x))
	for i := range x {
		sum[i] = x[i] + y[i]
	}
	return sum
}

func (d direction) times(f float64) direction {
	zero := make([]float64, len(d.a))
	t := direction{f * d.e, plus(d.a, zero), plus(d.b, zero)}
	for i := range t.a {
		t.a[i], t.b[i] = f*t.a[i], f*t.b[i]
	}
	return t
}

// solve gives the direction whose image under the normal equations is g. Arms meet in e alone, so each is two equations
// of its own.
func (s *sweep) solve(l *scaling, g direction) direction {
	type block struct{ aa, ab, bb, ea, eb float64 }
	blocks := make([]block, len(l.a))
	ee, ge := 0.0, g.e
	back := func(k *block, x, y float64) (a, b float64) {
		det := k.aa*k.bb - k.ab*k.ab
		return (k.bb*x - k.ab*y) / det, (k.aa*y - k.ab*x) / det
	}
	for arm := range l.a {
		k := &blocks[arm]
		for size, at := range s.logx[arm] {
			w, m := s.runs[size], l.at(arm, at)-l.e
			k.aa, k.ab, k.bb = k.aa+w*m*m, k.ab-w*m*m*at, k.bb+w*m*m*at*at
			k.ea, k.eb, ee = k.ea+w*m, k.eb-w*m*at, ee+w
		}
		x, y := back(k, k.ea, k.eb)
		ee -= k.ea*x + k.eb*y
		ge -= g.a[arm]*x + g.b[arm]*y
	}
	d := direction{ge / ee, make([]float64, len(l.a)), make([]float64, len(l.a))}
	if l.held {
		d.e = 0
	}
	for arm := range l.a {
		k := &blocks[arm]
		d.a[arm], d.b[arm] = back(k, g.a[arm]-k.ea*d.e, g.b[arm]-k.eb*d.e)
	}
	return d
}

// deviation is the standard error of what has a gradient, where the losses of a seed at a size scatter with a
// covariance over the arms.
func (s *sweep) deviation(l *scaling, gradient direction, covariance [][]float64) float64 {
	z := s.solve(l, gradient)
	sum := 0.0
	pull := make([]float64, len(l.a))
	for size, n := range s.runs {
		for arm := range pull {
			at := s.logx[arm][size]
			m := l.at(arm, at) - l.e
			pull[arm] = z.e + m*z.a[arm] - m*at*z.b[arm]
		}
		for i, row := range covariance {
			for j, v := range row {
				sum += n * pull[i] * v * pull[j]
			}
		}
	}
	return math.Sqrt(sum)
}
