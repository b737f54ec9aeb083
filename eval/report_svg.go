package eval

import (
	"cmp"
	"fmt"
	"html"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A chart is drawn as SVG in the page, in the page's colours, and by gonum/plot into files. Series of many points are
// lines with bands; series of one point are marks.
type chart struct {
	Title, X, Y string
	Series      []series
	Rates       []float64 // learning rates along x, which is logarithmic then: points have log10 of them
	Log         bool      // x is logarithmic without them
	Beside      bool      // another chart, which names the series
}

// A series is one arm in a chart.
type series struct {
	Name   string
	Index  int // of the arm, which gives it its colour
	Points []spread
	Dots   []dot // beside the points of a line
	Front  bool
	Best   int     // of Rates, the point that was chosen
	Shift  float64 // of a mark along x, to where it is seen
}

// palette has a colour for each arm, in light; the page has their twins for dark.
var palette = []string{"#2a6fdb", "#d1570f", "#1b8a5a", "#8e44ad", "#a87900", "#c2185b", "#00838f", "#6d4c41"}

// color is the CSS class of an arm.
func color(arm int) string { return "c" + strconv.Itoa(arm%len(palette)) }

// The picture's size and its inner frame, in its own units.
const (
	chartWidth, chartHeight                = 460.0, 310.0
	frameLeft, frameTop                    = 56.0, 12.0
	frameWidth, frameHeight                = 390.0, 246.0
	letter                                 = 6.8 // a little more than the mean width of a letter
	lineHeight                             = 15.0
	markRadius                             = 5.0
	frameRight, frameBottom                = frameLeft + frameWidth, frameTop + frameHeight
	horizontalTicks, verticalTicks         = 5, 6
	earlyPart                      float64 = 0.05 // of training, whose losses may leave the frame above
)

// lines says that the chart shows curves, not marks.
func (c *chart) lines() bool {
	return len(c.Rates) > 0 || slices.ContainsFunc(c.Series, func(s series) bool { return len(s.Points) > 1 })
}

// ranges are what the axes span. Curves fill the frame from after their steep beginning; marks keep away from its
// edges, and their x begins at 0.
func (c *chart) ranges() (x, y [2]float64) {
	if len(c.Rates) > 0 || c.Log {
		return c.logRanges()
	}
	x, y = [2]float64{0, 0}, [2]float64{math.Inf(1), math.Inf(-1)}
	for _, s := range c.Series {
		last := s.Points[len(s.Points)-1].x
		x[1] = max(x[1], last)
		for _, p := range s.Points {
			if p.x >= earlyPart*last {
				y[0], y[1] = min(y[0], p.low), max(y[1], p.high)
			}
		}
	}
	room := 0.04
	if !c.lines() {
		room = 0.12
		x[1] *= 1.18 // for names
	}
	pad := room * (y[1] - y[0])
	if pad == 0 {
		pad = max(0.05*math.Abs(y[1]), 1e-9)
	}
	return x, [2]float64{y[0] - pad, y[1] + pad}
}

// logRanges are those of a logarithmic x: all points and dots, with room round them.
func (c *chart) logRanges() (x, y [2]float64) {
	x, y = [2]float64{math.Inf(1), math.Inf(-1)}, [2]float64{math.Inf(1), math.Inf(-1)}
	for _, lr := range c.Rates {
		x[0], x[1] = min(x[0], math.Log10(lr)), max(x[1], math.Log10(lr))
	}
	for _, s := range c.Series {
		points := s.Points
		for _, d := range s.Dots {
			points = append(points[:len(points):len(points)], d.spread)
		}
		for _, p := range points {
			x[0], x[1] = min(x[0], p.x), max(x[1], p.x)
			y[0], y[1] = min(y[0], p.low), max(y[1], p.high)
		}
	}
	xPad, yPad := 0.1*(x[1]-x[0]), max(0.1*(y[1]-y[0]), 1e-9)
	if xPad == 0 {
		xPad = 0.1
	}
	return [2]float64{x[0] - xPad, x[1] + xPad}, [2]float64{y[0] - yPad, y[1] + yPad}
}

// A mark is a tick of the x axis.
type mark struct {
	at   float64
	text string
}

func (c *chart) xTicks(low, high float64) (all []mark) {
	for _, lr := range c.Rates {
		all = append(all, mark{math.Log10(lr), strconv.FormatFloat(lr, 'g', -1, 64)})
	}
	if c.Log {
		return logTicks(low, high)
	}
	if all == nil {
		for _, t := range ticks(low, high, horizontalTicks) {
			all = append(all, mark{t, short(t)})
		}
	}
	return all
}

// svg draws the chart. Whatever comes from outside is escaped here.
func (c *chart) svg() template.HTML {
	xr, yr := c.ranges()
	x := func(v float64) float64 { return frameLeft + frameWidth*(v-xr[0])/(xr[1]-xr[0]) }
	y := func(v float64) float64 { return frameBottom - frameHeight*(v-yr[0])/(yr[1]-yr[0]) }
	var s strings.Builder
	clip := "clip-" + strconv.FormatUint(uint64(hash(c.Title+c.X+c.Y)), 36)
	fmt.Fprintf(&s, `<svg viewBox="0 0 %g %g" role="img"><title>%s</title>`, chartWidth, chartHeight,
		html.EscapeString(c.Title+": "+c.Y+" over "+c.X))
	fmt.Fprintf(&s, `<clipPath id="%s"><rect x="%g" y="%g" width="%g" height="%g"/></clipPath>`, clip, frameLeft, frameTop,
		frameWidth, frameHeight)
	for _, t := range c.xTicks(xr[0], xr[1]) {
		fmt.Fprintf(&s, `<path class="grid" d="M%.1f %gV%g"/><text x="%.1f" y="%g" text-anchor="middle">%s</text>`, x(t.at),
			frameTop, frameBottom, x(t.at), frameBottom+17, t.text)
	}
	for _, t := range ticks(yr[0], yr[1], verticalTicks) {
		fmt.Fprintf(&s, `<path class="grid" d="M%g %.1fH%g"/><text x="%g" y="%.1f" text-anchor="end">%s</text>`, frameLeft,
			y(t), frameRight, frameLeft-6, y(t)+4, short(t))
	}
	fmt.Fprintf(&s, `<path class="axis" d="M%g %gV%gH%g"/>`, frameLeft, frameTop, frameBottom, frameRight)
	fmt.Fprintf(&s, `<text class="label" x="%g" y="%g" text-anchor="middle">%s</text>`, frameLeft+frameWidth/2,
		frameBottom+38, html.EscapeString(c.X))
	fmt.Fprintf(&s, `<text class="label" transform="translate(13 %g) rotate(-90)" text-anchor="middle">%s</text>`,
		frameTop+frameHeight/2, html.EscapeString(c.Y))
	fmt.Fprintf(&s, `<g clip-path="url(#%s)">`, clip)
	if c.lines() {
		c.drawLines(&s, x, y)
	} else {
		c.drawFront(&s, x, y)
	}
	s.WriteString("</g>")
	switch {
	case len(c.Rates) > 0:
		c.drawRates(&s, x, y)
	case c.Log:
		c.drawDots(&s, x, y)
	case !c.lines():
		c.drawMarks(&s, x, y)
	}
	s.WriteString("</svg>")
	return template.HTML(s.String())
}

func (c *chart) drawLines(s *strings.Builder, x, y func(float64) float64) {
	for _, one := range c.Series {
		var line, upper, lower strings.Builder
		for i, p := range one.Points {
			fmt.Fprintf(&line, "%.1f,%.1f ", x(p.x), y(p.mean))
			fmt.Fprintf(&upper, "%.1f,%.1f ", x(p.x), y(p.high))
			back := one.Points[len(one.Points)-1-i]
			fmt.Fprintf(&lower, "%.1f,%.1f ", x(back.x), y(back.low))
		}
		fmt.Fprintf(s, `<polygon class="band %s" points="%s%s"/>`, color(one.Index), upper.String(),
			strings.TrimSpace(lower.String()))
		fmt.Fprintf(s, `<polyline class="line %s%s" points="%s"/>`, color(one.Index), dashes(one.Index),
			strings.TrimSpace(line.String()))
	}
}

// drawRates puts a dot on every rate, a filled one on the best.
func (c *chart) drawRates(s *strings.Builder, x, y func(float64) float64) {
	for _, one := range c.Series {
		for i, p := range one.Points {
			state := "behind"
			if i == one.Best {
				state = "ahead"
			}
			fmt.Fprintf(s, `<circle class="mark %s %s" cx="%.1f" cy="%.1f" r="4"/>`, state, color(one.Index), x(p.x), y(p.mean))
		}
	}
}

// dashes tell the arms apart that come after the last colour.
func dashes(arm int) string {
	if arm >= len(palette) {
		return " dashed"
	}
	return ""
}

// front is the line below which no arm lies: from the top down to each arm of the front, and on to the right.
func (c *chart) front() (points []spread) {
	for _, one := range c.Series {
		if one.Front {
			points = append(points, one.Points[0])
		}
	}
	slices.SortFunc(points, func(a, b spread) int { return cmp.Compare(a.x, b.x) })
	return points
}

func (c *chart) drawFront(s *strings.Builder, x, y func(float64) float64) {
	var d strings.Builder
	for i, p := range c.front() {
		if i == 0 {
			fmt.Fprintf(&d, "M%.1f %g", x(p.x), frameTop)
		} else {
			fmt.Fprintf(&d, "H%.1f", x(p.x))
		}
		fmt.Fprintf(&d, "V%.1f", y(p.mean))
	}
	fmt.Fprintf(s, `<path class="front" d="%sH%g"/>`, d.String(), frameRight)
}

// drawMarks draws each arm as a mark with its name beside it: filled on the front, hollow behind it.
func (c *chart) drawMarks(s *strings.Builder, x, y func(float64) float64) {
	type label struct {
		x, y float64
		of   series
	}
	var labels []label
	for _, one := range c.Series {
		p := one.Points[0]
		at := x(p.x + one.Shift)
		state := "behind"
		if one.Front {
			state = "ahead"
		}
		fmt.Fprintf(s, `<path class="line %s" d="M%.1f %.1fV%.1f"/>`, color(one.Index), at, y(p.low), y(p.high))
		fmt.Fprintf(s, `<circle class="mark %s %s" cx="%.1f" cy="%.1f" r="%g"/>`, state, color(one.Index), at,
			y(p.mean), markRadius)
		labels = append(labels, label{at + markRadius + 5, y(p.mean) + 4, one})
	}
	slices.SortStableFunc(labels, func(a, b label) int { return cmp.Compare(a.y, b.y) })
	for i := range labels { // each below those above it that it would touch
		l := &labels[i]
		width := letter * float64(len([]rune(l.of.Name)))
		anchor, left := "start", l.x
		if l.x+width > chartWidth-2 {
			anchor, left = "end", l.x-2*(markRadius+5)-width
		}
		for _, above := range labels[:i] {
			if math.Abs(above.x-left) < width+8 && l.y-above.y < lineHeight {
				l.y = above.y + lineHeight
			}
		}
		at := left
		if anchor == "end" {
			at += width
		}
		l.x = left
		fmt.Fprintf(s, `<text class="name %s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, color(l.of.Index), at, l.y,
			anchor, html.EscapeString(l.of.Name))
	}
}

// ticks are about n round numbers from low to high.
func ticks(low, high float64, n int) (all []float64) {
	raw := (high - low) / float64(n)
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * unit
	for _, m := range []float64{1, 2, 5} {
		if m*unit >= raw*0.999 {
			step = m * unit
			break
		}
	}
	first := math.Ceil(low / step)
	if first == 0 {
		first = 0 // without a sign
	}
	for i := first; i*step <= high*(1+1e-12); i++ {
		all = append(all, i*step)
	}
	return all
}

// short writes 1500000 as 1.5M.
func short(v float64) string {
	units := []string{"", "k", "M", "G", "T", "P", "E", "Z"}
	i := 0
	for ; math.Abs(v) >= 1000*(1-1e-9) && i < len(units)-1; i++ {
		v /= 1000
	}
	return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'g', 6, 64) + units[i]
}

// hash names the parts of a picture apart from those of others in the page.
func hash(s string) (h uint32) {
	h = 2166136261
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}
