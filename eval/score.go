package eval

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Score computes the estimates of every arm from its trials. Differences are those of the loss, and pair the seeds that
// both arms finished. All that can be tested at one size, of every arm on every set, are one family.
func (c *Comparison) Score() error {
	for i := range c.Arms {
		a := &c.Arms[i]
		if c.base(a) == nil {
			return fmt.Errorf("eval: the baseline %q is not among the arms", strings.TrimPrefix(a.Size+"/"+c.Baseline, "/"))
		}
		a.Loss, a.Perplexity, a.Difference = map[string]Estimate{}, map[string]float64{}, map[string]Difference{}
		var speeds []float64
		for _, t := range a.Trials {
			speeds = append(speeds, t.TokensPerSecond)
		}
		a.TokensPerSecond = Mean(speeds)
		a.more()
		for _, set := range c.Sets {
			if e := Mean(a.on(set, nil)); e.N > 0 {
				a.Loss[set], a.Perplexity[set] = e, math.Exp(e.Mean)
			}
		}
	}
	if len(c.Arms) == 0 {
		return fmt.Errorf("eval: the baseline %q is not among the arms", c.Baseline)
	}
	for _, size := range c.sizes() {
		c.compare(size)
	}
	c.scoreRates()
	c.Laws = c.laws(lawResamples)
	return nil
}

// compare tests the arms of a size against its baseline.
func (c *Comparison) compare(size string) {
	type pair struct {
		arm *Arm
		set string
	}
	var pairs []pair
	tests := 0
	for i := range c.Arms {
		a := &c.Arms[i]
		for _, set := range c.Sets {
			if a.Size != size || a.Name == c.Baseline {
				continue
			}
			switch n := len(a.on(set, c.base(a))); {
			case n > 1:
				tests++
				fallthrough
			case n == 1:
				pairs = append(pairs, pair{a, set})
			}
		}
	}
	var tested []pair
	var p []float64
	for _, of := range pairs {
		base := c.base(of.arm)
		d := Paired(of.arm.on(of.set, base), base.on(of.set, of.arm), max(1, tests))
		d.Text = textual(of.arm.blocks(of.set, base), base.blocks(of.set, of.arm), significant/float64(max(1, tests)))
		of.arm.Difference[of.set] = d
		if d.N > 1 {
			tested, p = append(tested, of), append(p, d.P)
		}
	}
	for i, corrected := range Holm(p) {
		d := tested[i].arm.Difference[tested[i].set]
		d.P = corrected
		tested[i].arm.Difference[tested[i].set] = d
	}
}

// sizes are those of the arms, in their order.
func (c *Comparison) sizes() (names []string) {
	for _, a := range c.Arms {
		if !slices.Contains(names, a.Size) {
			names = append(names, a.Size)
		}
	}
	return names
}
