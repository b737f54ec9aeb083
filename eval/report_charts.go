package eval

import (
	"fmt"
	"math"
	"slices"
)

// legend has an entry for each name of an arm, whose colour is the same at all sizes.
func (r *Report) legend() (all []series) {
	for _, a := range r.Arms {
		if !slices.ContainsFunc(all, func(s series) bool { return s.Name == a.Name }) {
			all = append(all, series{Name: a.Name, Index: len(all)})
		}
	}
	return all
}

func (r *Report) index(a *Arm) int {
	return slices.IndexFunc(r.legend(), func(s series) bool { return s.Name == a.Name })
}

// of is the arms of a size.
func (r *Report) of(size string) (arms []*Arm) {
	for i := range r.Arms {
		if r.Arms[i].Size == size {
			arms = append(arms, &r.Arms[i])
		}
	}
	return arms
}

func titled(title, size string) string {
	if size == "" {
		return title
	}
	return size + ": " + title
}

// lossCharts are for each size the loss over tokens, and over FLOPs where they are known for every arm that has a
// curve.
func (r *Report) lossCharts() (all []chart) {
	for _, size := range r.sizes() {
		tokens := chart{Title: titled("loss by tokens", size), X: "training tokens", Y: "training loss"}
		flops := chart{Title: titled("loss by FLOPs", size), X: "training FLOPs", Y: "training loss"}
		known := true
		for _, a := range r.of(size) {
			var own []Curve
			for _, c := range r.Curves {
				if c.Arm == a.ID() {
					own = append(own, c)
				}
			}
			band := spreads(own)
			if len(band) == 0 {
				continue
			}
			tokens.Series = append(tokens.Series, series{Name: a.Name, Index: r.index(a), Points: band})
			scaled := slices.Clone(band)
			for j := range scaled {
				scaled[j].x *= a.FLOPs
			}
			flops.Series = append(flops.Series, series{Name: a.Name, Index: r.index(a), Points: scaled})
			known = known && a.FLOPs > 0
		}
		if len(tokens.Series) > 0 {
			all = append(all, tokens)
			if known {
				all = append(all, flops)
			}
		}
	}
	return all
}

// tradeoffCharts are the perplexity over the cache, one for each set and size.
func (r *Report) tradeoffCharts() (all []chart) {
	for _, size := range r.sizes() {
		for _, set := range r.Sets {
			c := chart{Title: titled(set, size), X: "cache bytes per token and layer", Y: "perplexity on " + set}
			front := r.Front(set)
			for i := range r.Arms {
				a := &r.Arms[i]
				if values := a.on(set, nil); len(values) > 0 && a.Size == size {
					for i, loss := range values {
						values[i] = math.Exp(loss)
					}
					point := []spread{over(float64(a.CacheBytes), values)}
					c.Series = append(c.Series, series{Name: a.Name, Index: r.index(a), Points: point, Front: front[i]})
				}
			}
			if len(c.Series) > 0 {
				c.part()
				all = append(all, c)
			}
		}
	}
	return all
}

// part moves marks of equal caches apart, so that none hides another. The mark on the Pareto front stays in place.
func (c *chart) part() {
	widest, seen := 0.0, map[float64]int{}
	for _, s := range c.Series {
		widest = max(widest, s.Points[0].x)
		if s.Front {
			seen[s.Points[0].x]++
		}
	}
	for i, s := range c.Series {
		if s.Front {
			continue
		}
		n := seen[s.Points[0].x]
		seen[s.Points[0].x]++
		c.Series[i].Shift = 0.03 * widest * float64(n) // to the right, so that no mark seems to lie beyond the front
	}
}

// rateCharts are the validation loss over the learning rate, one for each size.
func (r *Report) rateCharts() (all []chart) {
	for _, size := range r.sizes() {
		c := chart{Title: titled("learning rate", size), X: "peak learning rate", Y: "validation loss"}
		for _, a := range r.of(size) {
			line := series{Name: a.Name, Index: r.index(a), Best: -1}
			for _, rate := range a.Rates {
				if !slices.Contains(c.Rates, rate.LR) {
					c.Rates = append(c.Rates, rate.LR)
				}
				if len(rate.NLL) == 0 || len(rate.Failures) > 0 {
					continue
				}
				if rate.LR == a.LR {
					line.Best = len(line.Points)
				}
				line.Points = append(line.Points, over(math.Log10(rate.LR), rate.NLL))
			}
			if len(line.Points) > 0 {
				c.Series = append(c.Series, line)
			}
		}
		if len(c.Series) > 0 {
			slices.Sort(c.Rates)
			all = append(all, c)
		}
	}
	return all
}

// Bars show a speed of every arm by their lengths.
type bars struct {
	Title string
	Rows  []bar
}

// A bar is the speed of one arm.
type bar struct {
	Name, Text string
	Index      int
	Value      float64
	Percent    float64 // of the fastest
}

func (b *bars) add(name string, index int, e Estimate) {
	if e.N > 0 {
		b.Rows = append(b.Rows, bar{Name: name, Index: index, Value: e.Mean, Text: e.rate()})
	}
}

func (b *bars) scaled() []bars {
	fastest := 0.0
	for _, row := range b.Rows {
		fastest = max(fastest, row.Value)
	}
	for i := range b.Rows {
		b.Rows[i].Percent = 100 * b.Rows[i].Value / fastest
	}
	if fastest == 0 {
		return nil
	}
	return []bars{*b}
}

func (r *Report) trainingBars() []bars {
	b := bars{Title: "training, tokens per second"}
	for i := range r.Arms {
		a := &r.Arms[i]
		b.add(a.ID(), r.index(a), a.TokensPerSecond)
	}
	return b.scaled()
}

func (r *Report) decodingBars() (all []bars) {
	for _, c := range r.decodeCases() {
		b := bars{Title: fmt.Sprintf("batch %d, %d tokens in each cache: tokens per second (%s)", c.Batch,
			c.Context, c.Device)}
		for i := range r.Arms {
			a := &r.Arms[i]
			for _, d := range a.Decode {
				if d.of() == c.of() {
					b.add(a.ID(), r.index(a), d.TokensPerSecond)
				}
			}
		}
		all = append(all, b.scaled()...)
	}
	return all
}
