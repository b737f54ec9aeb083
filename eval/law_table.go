package eval

import (
	"fmt"
	"strings"
)

// writeLaws writes the laws over sizes, their predictions, and why a set has none.
func (c *Comparison) writeLaws(s *strings.Builder, table func(*strings.Builder, [][]string)) {
	if c.fits() {
		fmt.Fprintf(s, "\n%s:\n\n", lawCaption)
		table(s, c.lawRows())
		fmt.Fprintf(s, "\n%s:\n\n", predictionCaption)
		table(s, c.predictionRows())
	}
	for i, line := range c.lawKey() {
		if i == 0 {
			s.WriteString("\n")
		}
		s.WriteString("- " + line + "\n")
	}
}

// What stands above the tables.
const (
	lawCaption        = "Law over the sizes: loss = E + A·(C/C0)^-a, where C is the training FLOPs"
	predictionCaption = "Losses that the law predicts, and what was measured"
)

// lawRows has one row for each set and arm that has a law.
func (c *Comparison) lawRows() [][]string {
	rows := [][]string{{"arm", "set", "E", "A", "exponent a", "speed-up over " + c.Baseline, "found"}}
	for _, l := range c.Laws {
		for _, a := range l.Arms {
			speedup, found := a.Speedup.String(), a.Speedup.verdict()
			if a.Name == c.Baseline {
				speedup, found = "-", "baseline"
			}
			rows = append(rows, []string{a.Name, l.Set, fmt.Sprintf("%.4f", l.E), fmt.Sprintf("%.4f", a.A),
				fmt.Sprintf("%.4f", a.Exponent), speedup, found})
		}
	}
	return rows
}

// String is the speed-up with its interval.
func (s *Speedup) String() string {
	switch {
	case s == nil:
		return "-"
	case s.Interval == nil:
		return fmt.Sprintf("%.3f", s.Times)
	}
	return fmt.Sprintf("%.3f (%.3f to %.3f)", s.Times, s.Interval[0], s.Interval[1])
}

// verdict says what the law shows, and no more than that.
func (s *Speedup) verdict() string {
	switch {
	case !s.Resolved():
		return "not resolved"
	case s.Times > 1:
		return "better"
	}
	return "worse"
}

// predictionRows has for each set and arm what was predicted of the largest size, and what is predicted beyond it.
func (c *Comparison) predictionRows() [][]string {
	rows := [][]string{{"arm", "set", "size", "training FLOPs", "predicted", "measured", "inside the interval"}}
	for _, l := range c.Laws {
		for _, a := range l.Arms {
			for _, p := range []*Prediction{a.Held, a.Next} {
				if p != nil {
					rows = append(rows, append([]string{a.Name, l.Set}, p.row(l.Sizes[len(l.Sizes)-1])...))
				}
			}
		}
	}
	return rows
}

// row is a prediction, either of the largest size or beyond it.
func (p *Prediction) row(largest string) []string {
	size, measured, inside := "beyond "+largest, "-", "-"
	if p.Size != "" {
		size, measured = p.Size+", from the others", fmt.Sprintf("%.4f", p.Measured)
	}
	switch {
	case p.Inside != nil && *p.Inside:
		inside = "yes"
	case p.Inside != nil:
		inside = "no"
	}
	return []string{size, fmt.Sprintf("%.2e", p.FLOPs), p.String(), measured, inside}
}

// String is the predicted loss with its interval.
func (p *Prediction) String() string {
	if p.Interval == nil {
		return fmt.Sprintf("%.4f", p.Loss)
	}
	return fmt.Sprintf("%.4f (%.4f to %.4f)", p.Loss, p.Interval[0], p.Interval[1])
}

// lawKey describes the data of each law and the columns, or says why a set has no law.
func (c *Comparison) lawKey() (lines []string) {
	for i := range c.Laws {
		lines = append(lines, c.Laws[i].words(c.Baseline)...)
	}
	if !c.fits() {
		return lines
	}
	return append(lines,
		"E: the loss that no amount of training gets below, by the law; all arms share it. A: what an arm's law has "+
			"above it "+
			"at C0, in nats a token. exponent a: how fast that falls as FLOPs grow.",
		fmt.Sprintf("speed-up: how many times an arm's training FLOPs %s needs for the loss that the arm has at the largest "+
			"size; above 1 the arm is better. In brackets its interval; those of all arms and sets hold together with a "+
			"chance of 90%% (bootstrap over the seeds and sizes with normal scatter, Bonferroni). found: not resolved where "+
			"the interval holds 1, or there is none.", c.Baseline),
		"predicted: the mean loss of as many seeds as the largest size has, and its 90% interval, each by itself: at the "+
			"largest size by the law of all others, and as far beyond it as the sizes are apart.",
	)
}

// words describe the data of a law and the evidence against it, or say why there is none.
func (l *Law) words(baseline string) (lines []string) {
	if l.None != "" {
		return []string{fmt.Sprintf("No law on %s: %s.", l.Set, l.None)}
	}
	var sizes []string
	for i, size := range l.Sizes {
		seeds := fmt.Sprintf("%s (%d seeds)", size, l.Seeds[i])
		if l.Seeds[i] == 1 {
			seeds = size + " (1 seed)"
		}
		sizes = append(sizes, seeds)
	}
	lines = []string{fmt.Sprintf("The law on %s is fitted to %s. C0 is %.3g FLOPs, a training of %s at %s.",
		l.Set, strings.Join(sizes, ", "), l.C0, baseline, l.Sizes[len(l.Sizes)-1])}
	for _, note := range l.Notes {
		text, warning := strings.CutPrefix(note, "WARNING: ")
		text = l.Set + ": " + text + "."
		if warning {
			text = "WARNING: " + text
		}
		lines = append(lines, text)
	}
	return lines
}
