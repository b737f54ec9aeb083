package eval

import (
	"fmt"
	"math"
)

// Beyond these limits a fit of MLP widths does not make arms comparable: the largest deviation, and the least part of
// the baseline's MLP.
const (
	mostMiss = 0.01
	leastMLP = 0.5
)

// Unmatched says why an arm is not comparable to its baseline although MLP widths were fitted to what; empty where it
// is.
func Unmatched(what string, a, base *Arm) string {
	count := map[string]func(*Arm) float64{
		"parameters": func(a *Arm) float64 { return float64(a.Parameters) },
		"flops":      func(a *Arm) float64 { return a.FLOPs },
	}[what]
	if count == nil || base == nil || a == base || count(base) == 0 {
		return ""
	}
	miss, narrow := count(a)/count(base)-1, float64(a.MLP) < leastMLP*float64(base.MLP)
	if math.Abs(miss) <= mostMiss && !narrow {
		return ""
	}
	text := fmt.Sprintf("WARNING: %s is not matched to %s: its MLP has a width of %d, that of %s %d", a.ID(), base.ID(),
		a.MLP, base.ID(), base.MLP)
	if math.Abs(miss) > mostMiss {
		text += fmt.Sprintf(", and its %s still differ by %+.1f%%", map[string]string{"parameters": "parameters",
			"flops": "training FLOPs"}[what], 100*miss)
	}
	if narrow {
		return text + ". Its attention is too large for this model: attention.latent_dim, query_latent_dim and rope_dim of " +
			"latent kinds make it smaller " +
			"(`headroom config print` shows the kind's defaults), or a wider model makes it relatively so."
	}
	return text + "."
}

// unmatched are the arms that a fit has not made comparable.
func (c *Comparison) unmatched() (lines []string) {
	for i := range c.Arms {
		if text := Unmatched(c.Match, &c.Arms[i], c.base(&c.Arms[i])); text != "" {
			lines = append(lines, text)
		}
	}
	return lines
}
