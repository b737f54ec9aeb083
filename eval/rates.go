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

// edge says that an arm's best rate is the least or the largest of several, so that a better one may lie beyond.
func (a *Arm) edge() bool {
	var lower, higher bool
	for _, r := range a.Rates {
		lower, higher = lower || r.LR < a.LR, higher || r.LR > a.LR
	}
	return a.LR > 0 && len(a.Rates) > 1 && lower != higher
}

// remarks say how the arms were made comparable.
func (c *Comparison) remarks() (lines []string) {
	if text := c.matches(); text != "" {
		lines = append(lines, text)
	}
	lines = append(lines, c.unmatched()...)
	swept := slices.IndexFunc(c.Arms, func(a Arm) bool { return len(a.Rates) > 0 })
	if swept < 0 {
		return lines
	}
	var tried, edges []string
	for _, r := range c.Arms[swept].Rates {
		tried = append(tried, fmt.Sprintf("%g", r.LR))
	}
	by := "validation loss"
	if len(c.ChosenOn) > 0 {
		by = "the loss on " + strings.Join(c.ChosenOn, ", ")
	}
	text := fmt.Sprintf("Learning rates: each arm has the best of %s by %s on %d of its %d seeds", strings.Join(tried, ", "), by, c.LRSeeds, c.Seeds)
	if c.LRSeeds < c.Seeds {
		text += "; the other seeds trained at that one alone"
	}
	for i := range c.Arms {
		if c.Arms[i].edge() {
			edges = append(edges, c.Arms[i].ID())
		}
	}
	lines = append(lines, text+".")
	if again := c.ChosenReported; len(again) > 0 {
		lines = append(lines, "WARNING: the rates were chosen on "+strings.Join(again, ", ")+
			", which this table also reports: the figures flatter the arms whose runs scatter most. Name another text for the choice in eval.select.")
	}
	if len(edges) > 0 {
		lines = append(lines, "The best is the least or the largest rate tried for "+strings.Join(edges, ", ")+": a better one may lie beyond.")
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
			text += fmt.Sprintf(" (%+.2f%% parameters, %+.2f%% FLOPs)", 100*(float64(a.Parameters)/float64(base.Parameters)-1), 100*(a.FLOPs/base.FLOPs-1))
		}
		all = append(all, text)
	}
	return fmt.Sprintf("MLP widths, fitted to the %s of %s: %s.", map[string]string{"parameters": "parameters", "flops": "training FLOPs"}[c.Match], c.Baseline, strings.Join(all, ", "))
}
