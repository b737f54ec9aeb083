package eval

import (
	"fmt"
	"slices"
	"strings"
)

// A Rate is a learning rate that an arm was trained with, and the validation losses of those runs that finished.
type Rate struct {
	LR       float64   `json:"lr"`
	NLL      []float64 `json:"nll"` // nats a token, by seed
	Failures []Failure `json:"failures,omitempty"`
}

// BestRate is the index of the rate with the least mean loss among those that no run failed with, or -1 where there is
// none.
func BestRate(rates []Rate) int {
	best := -1
	for i, r := range rates {
		if len(r.Failures) > 0 || len(r.NLL) == 0 {
			continue
		}
		if best < 0 || Mean(r.NLL).Mean < Mean(rates[best].NLL).Mean {
			best = i
		}
	}
	return best
}

func (a *Arm) rate() string {
	if a.LR == 0 {
		return "-"
	}
	return fmt.Sprintf("%g", a.LR)
}

// scoreRates says where each arm's optimum lies.
func (c *Comparison) scoreRates() {
	for i := range c.Arms {
		a := &c.Arms[i]
		a.Edge, a.Optimum, a.NoOptimum = "", nil, ""
		if len(a.Rates) > 0 {
			a.Edge = Edge(a.Rates, c.LRSeeds)
			a.Optimum, a.NoOptimum = optimum(a.Rates, c.LRSeeds)
		}
	}
}

// swept says that learning rates were tried.
func (c *Comparison) swept() bool {
	return slices.ContainsFunc(c.Arms, func(a Arm) bool { return len(a.Rates) > 0 })
}

// remarks describe how the arms were made comparable.
func (c *Comparison) remarks() (lines []string) {
	if text := c.matches(); text != "" {
		lines = append(lines, text)
	}
	lines = append(lines, c.unmatched()...)
	if !c.swept() {
		return lines
	}
	text := fmt.Sprintf("Learning rates: each arm has the best of its own by %s on %d of its %d seeds",
		c.by(), c.LRSeeds, c.Seeds)
	if c.LRSeeds < c.Seeds {
		text += "; the other seeds trained at that one alone"
	}
	lines = append(lines, text+".")
	if again := c.ChosenReported; len(again) > 0 {
		lines = append(lines, "WARNING: the rates were chosen on "+strings.Join(again, ", ")+
			", which this table also reports: the figures flatter the arms whose runs scatter most. Name another text for the "+
			"choice in eval.select.")
	}
	if at := c.edges(); at != "" {
		lines = append(lines, at)
	}
	return lines
}

// by is what rates were chosen by.
func (c *Comparison) by() string {
	if len(c.ChosenOn) > 0 {
		return "the loss on " + strings.Join(c.ChosenOn, ", ")
	}
	return "validation loss"
}

// edges names the arms that may have a better rate beyond those that were tried.
func (c *Comparison) edges() string {
	var at []string
	for i := range c.Arms {
		if side := c.Arms[i].Edge; side != "" {
			at = append(at, c.Arms[i].ID()+" ("+side+")")
		}
	}
	if len(at) == 0 {
		return ""
	}
	return fmt.Sprintf("At the edge: extend the rates of %s: a better one may lie beyond those tried. compare "+
		"--extend-rates tries up to %d more on a side; others go into lr.",
		strings.Join(at, ", "), MostBeyond)
}

// rates has one row for each arm that tried several.
func (c *Comparison) rates() (rows [][]string) {
	rows = [][]string{{"arm", "rates", "best", "optimum", "95% interval", "the optimum is"}}
	for i := range c.Arms {
		a := &c.Arms[i]
		if len(a.Rates) == 0 {
			continue
		}
		var tried []string
		for _, r := range a.Rates {
			text := fmt.Sprintf("%g", r.LR)
			if len(r.Failures) > 0 {
				text += " (failed)"
			}
			tried = append(tried, text)
		}
		row := []string{a.ID(), strings.Join(tried, " "), a.rate(), "-", "-", a.where()}
		if o := a.Optimum; o != nil {
			row[3] = a.within(o.LR)
			switch {
			case o.Open:
				row[4] = "not bounded"
			case o.Interval != nil:
				row[4] = fmt.Sprintf("%.2g to %.2g", o.Interval[0], o.Interval[1])
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// within is an optimum, or the side of all rates on which it lies, since a parabola does not tell how far beyond.
func (a *Arm) within(lr float64) string {
	least, most := slices.MinFunc(a.Rates, byRate).LR, slices.MaxFunc(a.Rates, byRate).LR
	switch {
	case lr < least:
		return fmt.Sprintf("below %g", least)
	case lr > most:
		return fmt.Sprintf("above %g", most)
	}
	return fmt.Sprintf("%.2g", lr)
}

// where says whether the optimum lies within the rates.
func (a *Arm) where() string {
	switch {
	case a.LR == 0:
		return "-"
	case a.Edge != "":
		return "at the edge: " + a.Edge
	case len(a.Rates) == 1:
		return "unknown: one rate"
	}
	return "inside"
}

// rateKey says what the columns of the rates are, and why some arms have no parabola.
func (c *Comparison) rateKey() []string {
	lines := []string{"optimum: the least of a parabola over the logarithm of the rate, through the best rate and up to " +
		"two on either side, with all seeds that tried them. " +
		"The interval is that of Student's t (Fieller); it takes more than three losses. Runs have the best rate that was " +
		"tried, not the optimum."}
	why := map[string][]string{}
	var reasons []string
	for i := range c.Arms {
		a := &c.Arms[i]
		if a.NoOptimum == "" {
			continue
		}
		if len(why[a.NoOptimum]) == 0 {
			reasons = append(reasons, a.NoOptimum)
		}
		why[a.NoOptimum] = append(why[a.NoOptimum], a.ID())
	}
	for _, reason := range reasons {
		lines = append(lines, strings.Join(why[reason], ", ")+": "+reason+".")
	}
	if len(reasons) > 0 && !slices.ContainsFunc(c.Arms, func(a Arm) bool { return a.Optimum != nil }) {
		return lines[1:]
	}
	return lines
}

// matches says how close the arms come to their baseline in what their MLP widths were fitted to, and in the other.
func (c *Comparison) matches() string {
	if c.Match == "" {
		return ""
	}
	var all []string
	for i := range c.Arms {
		a, base := &c.Arms[i], c.base(&c.Arms[i])
		if base == nil || a.FLOPs == 0 || base.FLOPs == 0 {
			continue
		}
		text := fmt.Sprintf("%s %d", a.ID(), a.MLP)
		if a != base {
			text += fmt.Sprintf(" (%+.2f%% parameters, %+.2f%% FLOPs)", 100*(float64(a.Parameters)/float64(base.Parameters)-1),
				100*(a.FLOPs/base.FLOPs-1))
		}
		all = append(all, text)
	}
	return fmt.Sprintf("MLP widths, fitted to the %s of %s: %s.", map[string]string{"parameters": "parameters",
		"flops": "training FLOPs"}[c.Match], c.Baseline, strings.Join(all, ", "))
}
