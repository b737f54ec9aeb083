package eval

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// A ladder is what a law is fitted to on one set: the losses of several arms at several sizes, by rising FLOPs.
type ladder struct {
	set    string
	arms   []string // the baseline first
	sizes  []string
	seeds  [][]uint64  // by size: those whose run every arm has
	flops  [][]float64 // of a training, by arm and size
	losses cells
	notes  []string // what is left out, and why
}

// LeastSizes is how many sizes a law takes.
const LeastSizes = 3

const (
	leastStep = 1.05 // from the FLOPs of a size to those of the next
	mostApart = 1.1  // tokens per parameter, from one size of an arm to another
)

// trainingFLOPs are those of one run, 0 where they are not known.
func (a *Arm) trainingFLOPs() float64 { return a.FLOPs * float64(a.Tokens) }

// finite says that a trial has a loss on a set that is a number.
func (t Trial) finite(set string) bool {
	p, ok := t.Perplexity[set]
	return ok && p > 0 && !math.IsInf(p, 1)
}

// at is the arm of a name at a size, nil where there is none.
func (c *Comparison) at(name, size string) *Arm {
	i := slices.IndexFunc(c.Arms, func(a Arm) bool { return a.Name == name && a.Size == size })
	if i < 0 {
		return nil
	}
	return &c.Arms[i]
}

// finished are the seeds whose runs of an arm at a size have a loss on a set, in rising order.
func (c *Comparison) finished(name, size, set string) (seeds []uint64) {
	if a := c.at(name, size); a != nil {
		for _, t := range a.measured(set, nil) {
			if t.finite(set) {
				seeds = append(seeds, t.Seed)
			}
		}
	}
	return seeds
}

// ladder gathers the losses on a set, or says why they make no law. An arm with results at fewer than three sizes is
// left out, and so is a size at which one of the other arms has none.
func (c *Comparison) ladder(set string) (l ladder, why string) {
	l.set = set
	sizes := c.sizes()
	if len(sizes) < LeastSizes {
		return l, fmt.Sprintf("it takes %d sizes, and the comparison has %d", LeastSizes, len(sizes))
	}
	if i := slices.IndexFunc(c.Arms, func(a Arm) bool { return !(a.trainingFLOPs() > 0) }); i >= 0 {
		return l, fmt.Sprintf("the training FLOPs of %s are not known: another version wrote this table, and `headroom "+
			"compare --collect DIR` writes it anew", c.Arms[i].ID())
	}
	if why := c.climbers(&l, sizes); why != "" {
		return l, why
	}
	slices.SortStableFunc(sizes, func(s, t string) int {
		return cmp.Compare(c.at(c.Baseline, s).trainingFLOPs(), c.at(c.Baseline, t).trainingFLOPs())
	})
	for _, size := range sizes {
		if shared := c.common(&l, size); len(shared) > 0 {
			l.sizes, l.seeds = append(l.sizes, size), append(l.seeds, shared)
		}
	}
	if len(l.sizes) < LeastSizes {
		l.notes = append(l.notes, fmt.Sprintf("it takes %d sizes at which these arms have results, and there are %d",
			LeastSizes, len(l.sizes)))
		return l, strings.Join(l.notes, "; ")
	}
	c.fill(&l)
	if why := l.falling(); why != "" {
		return l, why
	}
	return l, c.level(&l)
}

// falling leaves out the arms whose losses rise over the sizes: they have no law, and would spoil that of the others.
func (l *ladder) falling() (why string) {
	top, means := len(l.sizes)-1, l.losses.means()
	for i := len(l.arms) - 1; i >= 0; i-- {
		first, last := means[i][0], means[i][top]
		if last < first {
			continue
		}
		text := fmt.Sprintf("losses of %s do not fall over the sizes, from %.4f at %s to %.4f at %s", l.arms[i], first,
			l.sizes[0], last, l.sizes[top])
		if i == 0 {
			return text
		}
		l.notes = append(l.notes, text+": the arm is left out")
		l.arms, l.flops, l.losses = slices.Delete(l.arms, i, i+1), slices.Delete(l.flops, i, i+1),
			slices.Delete(l.losses, i, i+1)
	}
	return ""
}

// climbers finds the arms with results at enough sizes.
func (c *Comparison) climbers(l *ladder, sizes []string) (why string) {
	names := []string{c.Baseline}
	for _, a := range c.Arms {
		if !slices.Contains(names, a.Name) {
			names = append(names, a.Name)
		}
	}
	for _, name := range names {
		var at []string
		for _, size := range sizes {
			if len(c.finished(name, size, l.set)) > 0 {
				at = append(at, size)
			}
		}
		if len(at) >= LeastSizes {
			l.arms = append(l.arms, name)
			continue
		}
		text := fmt.Sprintf("%s has results at %d of %d sizes, and a law takes %d", name, len(at), len(sizes), LeastSizes)
		if name == c.Baseline {
			return text
		}
		l.notes = append(l.notes, text+": the arm is left out")
	}
	return ""
}

// common are the seeds whose runs at a size every arm of the ladder has. What that leaves out is noted.
func (c *Comparison) common(l *ladder, size string) []uint64 {
	shared, all := c.finished(l.arms[0], size, l.set), map[uint64]bool{}
	for _, name := range l.arms {
		own := c.finished(name, size, l.set)
		if len(own) == 0 {
			l.notes = append(l.notes, fmt.Sprintf("%s has no results at %s: the size is left out", name, size))
			return nil
		}
		for _, seed := range own {
			all[seed] = true
		}
		shared = slices.DeleteFunc(shared, func(seed uint64) bool { return !slices.Contains(own, seed) })
	}
	switch {
	case len(shared) == 0:
		l.notes = append(l.notes, fmt.Sprintf("no seed at %s has a result of every arm: the size is left out", size))
	case len(shared) < len(all):
		l.notes = append(l.notes, fmt.Sprintf("at %s, %d of %d seeds have a result of every arm: the others are left out",
			size, len(shared), len(all)))
	}
	return shared
}

// fill takes over the losses and FLOPs of the arms, sizes and seeds of the ladder.
func (c *Comparison) fill(l *ladder) {
	for _, name := range l.arms {
		var flops []float64
		var losses [][]float64
		for i, size := range l.sizes {
			a := c.at(name, size)
			var row []float64
			for _, t := range a.measured(l.set, nil) {
				if t.finite(l.set) && slices.Contains(l.seeds[i], t.Seed) {
					row = append(row, math.Log(t.Perplexity[l.set]))
				}
			}
			flops, losses = append(flops, a.trainingFLOPs()), append(losses, row)
		}
		l.flops, l.losses = append(l.flops, flops), append(l.losses, losses)
	}
}

// level says why the sizes are no steps upward. Tokens per parameter that differ are noted.
func (c *Comparison) level(l *ladder) (why string) {
	for i := range l.arms {
		steps := 1
		from := l.flops[i][0]
		for _, f := range l.flops[i][1:] {
			if f >= leastStep*from {
				steps, from = steps+1, f
			}
		}
		if steps < LeastSizes {
			return fmt.Sprintf("the trainings of %s at its %d sizes have but %d different numbers of FLOPs, and it takes %d "+
				"(at least %.0f%% apart)",
				l.arms[i], len(l.sizes), steps, LeastSizes, 100*(leastStep-1))
		}
	}
	for _, name := range l.arms {
		var at []*Arm
		for _, size := range l.sizes {
			at = append(at, c.at(name, size))
		}
		if text := Unheld(at); text != "" {
			l.notes = append(l.notes, "WARNING: "+text)
			return ""
		}
	}
	return ""
}

// Unheld says that an arm has other numbers of tokens per parameter at some of its sizes. It is empty where they are
// about the same, as a law over the sizes takes them to be.
func Unheld(sizes []*Arm) string {
	least, most := math.Inf(1), 0.0
	var all []string
	for _, a := range sizes {
		each := float64(a.Tokens) / float64(a.Parameters)
		least, most = min(least, each), max(most, each)
		all = append(all, fmt.Sprintf("%.3g at %s", each, a.Size))
	}
	if most <= mostApart*least {
		return ""
	}
	return fmt.Sprintf("tokens per parameter are not held: %s has %s. The law mixes what parameters and what tokens do, "+
		"and predicts nothing for another mixture", sizes[0].Name, strings.Join(all, ", "))
}

// below is the ladder without the sizes from one on.
func (l ladder) below(sizes int) ladder {
	short := ladder{set: l.set, arms: l.arms, sizes: l.sizes[:sizes], seeds: l.seeds[:sizes]}
	for i := range l.arms {
		short.flops, short.losses = append(short.flops, l.flops[i][:sizes]), append(short.losses, l.losses[i][:sizes])
	}
	return short
}

// middle is a number of FLOPs amid the ladder, as a logarithm. Fits are made in parts of it.
func (l ladder) middle() (log float64) {
	for _, row := range l.flops {
		for _, f := range row {
			log += math.Log(f) / float64(len(row)*len(l.flops))
		}
	}
	return log
}

// sweep is the ladder as fits take it.
func (l ladder) sweep() (s sweep) {
	middle := l.middle()
	for _, row := range l.flops {
		var logs []float64
		for _, f := range row {
			logs = append(logs, math.Log(f)-middle)
		}
		s.logx = append(s.logx, logs)
	}
	for _, seeds := range l.seeds {
		s.runs = append(s.runs, float64(len(seeds)))
	}
	return s
}
