package eval

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// A dot is a mean with how far it reaches, on a curve: measured, or predicted.
type dot struct {
	spread
	Predicted bool
}

// state is the CSS class of a dot: filled or hollow.
func (d dot) state() string {
	if d.Predicted {
		return "behind"
	}
	return "ahead"
}

// lawCharts are two for each set that has a law: losses over the training FLOPs, and how far they lie from the
// baseline's law, without which arms that differ little are one line.
func (r *Report) lawCharts() (all []chart) {
	for i := range r.Laws {
		l := &r.Laws[i]
		if l.None != "" {
			continue
		}
		losses := chart{Title: "law on " + l.Set, X: "training FLOPs", Y: "loss on " + l.Set, Log: true}
		apart := chart{Title: "law on " + l.Set + ", from that of " + r.Baseline, X: "training FLOPs",
			Y: "loss minus law of " + r.Baseline, Log: true, Beside: true}
		for _, a := range l.Arms {
			s := r.lawSeries(l, a)
			losses.Series, apart.Series = append(losses.Series, s), append(apart.Series, s.from(l))
		}
		all = append(all, losses, apart)
	}
	return all
}

// lawCurve is how many points a law is drawn through.
const lawCurve = 60

// at is the law's loss of an arm at a power of ten of training FLOPs.
func (l *Law) at(a LawArm, log float64) float64 {
	return l.E + a.A*math.Pow(10, -a.Exponent*(log-math.Log10(l.C0)))
}

// lawSeries is the law of an arm from its smallest size to its prediction, and what was measured.
func (r *Report) lawSeries(l *Law, a LawArm) series {
	s := series{Name: a.Name, Index: r.index(r.at(a.Name, l.Sizes[0]))}
	for _, size := range l.Sizes {
		arm := r.at(a.Name, size)
		s.Dots = append(s.Dots, dot{over(math.Log10(arm.trainingFLOPs()), numbers(arm.on(l.Set, nil))), false})
	}
	from, to := s.Dots[0].x, math.Log10(a.Next.FLOPs)
	for i := range lawCurve + 1 {
		x := from + (to-from)*float64(i)/lawCurve
		y := l.at(a, x)
		s.Points = append(s.Points, spread{x, y, y, y})
	}
	next := spread{to, a.Next.Loss, a.Next.Loss, a.Next.Loss}
	if p := a.Next.Interval; p != nil {
		next.low, next.high = p[0], p[1]
	}
	s.Dots = append(s.Dots, dot{next, true})
	return s
}

// from is the series as seen from the baseline's law.
func (s series) from(l *Law) series {
	s.Points, s.Dots = slices.Clone(s.Points), slices.Clone(s.Dots)
	for i := range s.Points {
		s.Points[i] = s.Points[i].minus(l.at(l.Arms[0], s.Points[i].x))
	}
	for i := range s.Dots {
		s.Dots[i].spread = s.Dots[i].minus(l.at(l.Arms[0], s.Dots[i].x))
	}
	return s
}

func (s spread) minus(y float64) spread { return spread{s.x, s.mean - y, s.low - y, s.high - y} }

// numbers are those of some losses that are.
func numbers(losses []float64) []float64 {
	return slices.DeleteFunc(losses, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
}

// logTicks are round numbers between powers of ten: powers, or where these are few their halves and fifths too, or any.
func logTicks(low, high float64) (all []mark) {
	for _, steps := range [][]float64{{1}, {1, 2, 5}} {
		all = nil
		for power := math.Floor(low); power <= high; power++ {
			for _, step := range steps {
				if at := power + math.Log10(step); at >= low && at <= high {
					all = append(all, mark{at, short(step * math.Pow(10, power))})
				}
			}
		}
		if len(all) >= 3 {
			return all
		}
	}
	all = nil
	for _, t := range ticks(math.Pow(10, low), math.Pow(10, high), horizontalTicks) {
		all = append(all, mark{math.Log10(t), short(t)})
	}
	return all
}

// drawDots puts a dot on everything measured, and a hollow one on what is predicted, with strokes through them.
func (c *chart) drawDots(s *strings.Builder, x, y func(float64) float64) {
	for _, one := range c.Series {
		for _, d := range one.Dots {
			fmt.Fprintf(s, `<path class="line %s" d="M%.1f %.1fV%.1f"/>`, color(one.Index), x(d.x), y(d.low), y(d.high))
			fmt.Fprintf(s, `<circle class="mark %s %s" cx="%.1f" cy="%.1f" r="4"/>`, d.state(),
				color(one.Index), x(d.x), y(d.mean))
		}
	}
}

// plotDots does the same with gonum/plot.
func (s *series) plotDots(p *plot.Plot) error {
	for _, d := range s.Dots {
		whisker, err := plotter.NewLine(plotter.XYs{{X: d.x, Y: d.low}, {X: d.x, Y: d.high}})
		if err != nil {
			return err
		}
		mark, err := plotter.NewScatter(plotter.XYs{{X: d.x, Y: d.mean}})
		if err != nil {
			return err
		}
		whisker.Color, whisker.Width = rgb(s.Index, 255), vg.Points(1.5)
		mark.Color, mark.Radius, mark.Shape = rgb(s.Index, 255), vg.Points(4), draw.CircleGlyph{}
		if d.Predicted {
			mark.Shape = draw.RingGlyph{}
		}
		p.Add(whisker, mark)
	}
	return nil
}
