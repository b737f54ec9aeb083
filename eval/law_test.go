package eval

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// A climb is a kind of comparison over sizes that is drawn many times, to count how often what its laws say is so.
type climb struct {
	arms   int     // besides the baseline
	seeds  []int   // by size
	noise  float64 // what a seed moves a loss by
	wild   float64 // how many times as much more at the smallest size
	tails  float64 // degrees of freedom of Student's t, as which seeds scatter; 0 is a normal distribution
	held   [2]float64
	warned float64 // most of the laws that sizes are said to miss
}

// draw makes a comparison whose losses scatter around laws, which it returns. A seed moves all arms together, and each
// alone by as much.
func (s climb) draw(r *rand.Rand) (*Comparison, scaling) {
	truth := scaling{e: 1.5 + r.Float64(), a: []float64{r.Float64()}, b: []float64{0.1 + 0.15*r.Float64()}}
	for range s.arms {
		truth.a, truth.b = append(truth.a, truth.a[0]+0.1*(r.Float64()-0.5)),
			append(truth.b, truth.b[0]+0.02*(r.Float64()-0.5))
	}
	return s.around(truth, r), truth
}

func (s climb) around(truth scaling, r *rand.Rand) *Comparison {
	c := &Comparison{Name: "climb", Baseline: "arm-0", Sets: []string{"books"}}
	for size, seeds := range s.seeds {
		noise := s.noise / math.Sqrt2 * (1 + s.wild*float64(len(s.seeds)-1-size)/float64(len(s.seeds)-1))
		together := make([]float64, seeds)
		for i := range together {
			together[i] = study{tails: s.tails}.scatter(r)
		}
		for arm := range s.arms + 1 {
			a := Arm{Name: fmt.Sprintf("arm-%d", arm), Size: fmt.Sprintf("size-%d", size), Parameters: 5e4, Tokens: 1e6,
				FLOPs: 1e10 * math.Exp(s.logx(arm, size))}
			for seed := range seeds {
				loss := truth.at(arm, s.logx(arm, size)) + noise*(together[seed]+study{tails: s.tails}.scatter(r))
				a.Trials = append(a.Trials, Trial{Seed: uint64(seed), Perplexity: map[string]float64{"books": math.Exp(loss)}})
			}
			c.Arms = append(c.Arms, a)
		}
	}
	return c
}

// logx is where an arm stands at a size that is ten times the one before, as seen from 1e16 FLOPs.
func (s climb) logx(arm, size int) float64 {
	return math.Ln10*(float64(size)-float64(len(s.seeds)-1)/2) + 0.03*float64(arm)
}

// ends are the numbers of a cell "1.1 (1.0 to 1.2)".
func ends(t *testing.T, cell string) (value, low, high float64) {
	t.Helper()
	if n, err := fmt.Sscanf(cell, "%g (%g to %g)", &value, &low, &high); n != 3 {
		t.Fatalf("%q has no interval: %v", cell, err)
	}
	return value, low, high
}

// TestLawsAreWhatTheySay draws comparisons over sizes and holds what their tables print against the laws they were
// drawn from: the true speed-up and the loss of new runs. A single speed-up has 90%; several hold together with 90% or
// more. Where the smallest size scatters most, as small models do, intervals are wider than they need be, since all
// sizes count as scattering alike.
func TestLawsAreWhatTheySay(t *testing.T) {
	exact, bound := [2]float64{0.88, 0.92}, [2]float64{0.88, 0.99}
	for i, s := range []climb{
		{arms: 1, seeds: []int{3, 3, 3}, noise: 0.01, held: exact, warned: 0.07},
		{arms: 1, seeds: []int{3, 3, 3, 2}, noise: 0.01, held: exact, warned: 0.07},
		{arms: 3, seeds: []int{3, 3, 3, 2}, noise: 0.01, held: bound, warned: 0.07},
		{arms: 1, seeds: []int{3, 3, 3}, noise: 0.01, wild: 1, held: bound, warned: 0.07},
		{arms: 1, seeds: []int{3, 3, 3}, noise: 0.01, tails: 3, held: bound, warned: 0.07},
	} {
		r := rand.New(rand.NewPCG(11, uint64(i)))
		const draws = 1000
		held, losses, resolved, wrong, warned := 0, 0, 0, 0, 0
		for range draws {
			c, truth := s.draw(r)
			c.Laws = c.laws(199)
			top, all := len(s.seeds)-1, true
			for arm, row := range c.lawRows()[2:] {
				_, low, high := ends(t, row[5])
				want := math.Exp(truth.speedup(arm+1, s.logx(arm+1, top)))
				all = all && low <= want+5e-4 && want-5e-4 <= high // as printed
				resolved += count(row[6] != "not resolved")
				wrong += count(row[6] == "better" && want < 1 || row[6] == "worse" && want > 1)
			}
			held += count(all)
			warned += count(strings.Contains(strings.Join(c.lawKey(), " "), "miss the law"))
			rows := c.predictionRows()
			last := rows[len(rows)-1]
			_, low, high := ends(t, last[4])
			run := 0.0
			for n := s.seeds[top]; n > 0; n-- {
				run += (truth.at(s.arms, s.logx(s.arms, top+1)) + s.noise*r.NormFloat64()) / float64(s.seeds[top])
			}
			losses += count(low <= run && run <= high)
		}
		part := func(n int) float64 { return float64(n) / draws }
		name := fmt.Sprintf("%d arms, seeds %v, wild %g, tails of %g", s.arms, s.seeds, s.wild, s.tails)
		t.Logf("%s: all speed-ups hold in %.1f%%, the next losses in %.1f%%; %.2f of %d are resolved, %d wrongly; %.1f%% "+
			"are warned of", name, 100*part(held), 100*part(losses), part(resolved), s.arms, wrong, 100*part(warned))
		between(t, name+": comparisons all of whose speed-ups hold", part(held), s.held[0], s.held[1])
		between(t, name+": predictions that hold", part(losses), 0.87, 0.98)
		between(t, name+": laws whose sizes seem to miss it", part(warned), 0, s.warned)
		between(t, name+": speed-ups resolved the wrong way", part(wrong), 0, 0.02)
	}
}

// pair is two arms over four sizes with laws that differ by a factor alone: exp(0.1) of what lies above E, at exponent
// 0.2, is exp(0.5) of FLOPs.
var pair = scaling{e: 2, a: []float64{0.1, 0}, b: []float64{0.2, 0.2}}

func scored(t *testing.T, c *Comparison) *Comparison {
	t.Helper()
	if err := c.Score(); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLawWithoutScatter finds the law itself, and is sure of it. Single seeds are sure of nothing.
func TestLawWithoutScatter(t *testing.T) {
	s := climb{arms: 1, seeds: []int{2, 2, 2, 2}}
	l := scored(t, s.around(pair, rand.New(rand.NewPCG(1, 1)))).Laws[0]
	at := s.logx(0, 3)
	near(t, "E", l.E, 2, 1e-4)
	near(t, "C0", l.C0, 1e16*math.Exp(at), 1e3)
	near(t, "A of the baseline", l.Arms[0].A, math.Exp(0.1-0.2*at), 1e-4)
	near(t, "A of the arm", l.Arms[1].A, math.Exp(-0.2*at), 1e-4)
	near(t, "exponent", l.Arms[1].Exponent, 0.2, 1e-4)
	near(t, "speed-up", l.Arms[1].Speedup.Times, math.Exp(0.5), 1e-4)
	near(t, "next FLOPs of the arm", l.Arms[1].Next.FLOPs, 1e16*math.Exp(s.logx(1, 4)), 1e6)
	near(t, "next loss of the arm", l.Arms[1].Next.Loss, pair.at(1, s.logx(1, 4)), 1e-4)
	near(t, "loss that is held", l.Arms[0].Held.Loss, l.Arms[0].Held.Measured, 1e-4)
	if l.Arms[0].Speedup != nil || l.Arms[1].Speedup.verdict() != "better" {
		t.Errorf("got %+v", l)
	}
	s.seeds = []int{1, 1, 1, 1}
	l = scored(t, s.around(pair, rand.New(rand.NewPCG(1, 1)))).Laws[0]
	if got := l.Arms[1].Speedup; math.Abs(got.Times-math.Exp(0.5)) > 1e-4 || got.Interval != nil ||
		got.verdict() != "not resolved" || l.Arms[0].Held.Inside != nil {
		t.Errorf("got %+v", l)
	}
}

// TestLaterSizeIsHeldAgainstThePrediction adds a size to a comparison: what it is held against is what was predicted
// before it was there.
func TestLaterSizeIsHeldAgainstThePrediction(t *testing.T) {
	s := climb{arms: 2, seeds: []int{3, 2, 2, 2}, noise: 0.01}
	later, _ := s.draw(rand.New(rand.NewPCG(3, 4)))
	before := &Comparison{Baseline: later.Baseline, Sets: later.Sets, Arms: append([]Arm{}, later.Arms[:9]...)}
	scored(t, later)
	scored(t, before)
	for i, a := range later.Laws[0].Arms {
		said := before.Laws[0].Arms[i].Next
		near(t, a.Name+": FLOPs", a.Held.FLOPs/said.FLOPs, 1, 1e-9)
		near(t, a.Name+": loss", a.Held.Loss, said.Loss, 1e-9)
		near(t, a.Name+": low", a.Held.Interval[0], said.Interval[0], 1e-9)
		near(t, a.Name+": high", a.Held.Interval[1], said.Interval[1], 1e-9)
		near(t, a.Name+": measured", a.Held.Measured, later.at(a.Name, "size-3").Loss["books"].Mean, 1e-9)
		if inside := math.Abs(a.Held.Measured-said.Loss) <= said.Interval[1]-said.Loss; *a.Held.Inside != inside {
			t.Errorf("%s: %+v is not held against %+v", a.Name, a.Held, said)
		}
	}
	if before.Laws[0].Arms[0].Held != nil {
		t.Error("three sizes hold none of them against the others")
	}
	// A size that comes out worse than any law says is outside.
	for i := range later.Arms[9].Trials {
		later.Arms[9].Trials[i].Perplexity["books"] *= math.Exp(0.2)
	}
	if h := scored(t, later).Laws[0].Arms[0].Held; *h.Inside || !strings.Contains(later.Text(), "no\n") {
		t.Errorf("got %+v", h)
	}
}

// TestLawsOfSeveralSets: intervals that hold together are wider than those of one set alone, and predictions are not.
func TestLawsOfSeveralSets(t *testing.T) {
	c, _ := climb{arms: 1, seeds: []int{3, 3, 3, 3}, noise: 0.01}.draw(rand.New(rand.NewPCG(7, 8)))
	alone := scored(t, c).Laws[0].Arms[1]
	for i := range c.Arms {
		for _, trial := range c.Arms[i].Trials {
			trial.Perplexity["more"] = 2 * trial.Perplexity["books"]
		}
	}
	c.Sets = append(c.Sets, "more")
	both := scored(t, c).Laws
	one, two := both[0].Arms[1], both[1].Arms[1]
	if len(both) != 2 || one.Speedup.Interval[0] >= alone.Speedup.Interval[0] ||
		one.Speedup.Interval[1] <= alone.Speedup.Interval[1] {
		t.Errorf("%v beside %v alone", one.Speedup, alone.Speedup)
	}
	near(t, "speed-up", one.Speedup.Times, alone.Speedup.Times, 1e-12)
	near(t, "prediction", one.Next.Interval[0], alone.Next.Interval[0], 1e-12)
	near(t, "speed-up on a set that is a constant harder", two.Speedup.Times, one.Speedup.Times, 1e-3)
	near(t, "E of that set", both[1].E, both[0].E+math.Ln2, 1e-3)
}

// TestNoLawSaysWhy damages comparisons over sizes: each has one clear line in its table, and its JSON comes back as it
// was.
func TestNoLawSaysWhy(t *testing.T) {
	each := func(c *Comparison, name, size string, do func(*Arm)) {
		for i := range c.Arms {
			if a := &c.Arms[i]; (name == "" || a.Name == name) && (size == "" || a.Size == size) {
				do(a)
			}
		}
	}
	lost := func(a *Arm) { a.Trials, a.Failures = nil, []Failure{{1, "no memory"}} }
	for _, c := range []struct {
		name   string
		damage func(*Comparison)
		want   string
	}{
		{"two sizes", func(c *Comparison) { c.Arms = c.Arms[:6] },
			"- No law on books: it takes 3 sizes, and the comparison has 2."},
		{"one size of a name", func(c *Comparison) { c.Arms = c.Arms[:3] },
			"- No law on books: it takes 3 sizes, and the comparison has 1."},
		{"FLOPs unknown", func(c *Comparison) { each(c, "arm-1", "size-2", func(a *Arm) { a.FLOPs = 0 }) },
			"- No law on books: the training FLOPs of size-2/arm-1 are not known: another version wrote this table, and " +
				"`headroom compare --collect DIR` writes it anew."},
		{"tokens unknown", func(c *Comparison) { each(c, "", "", func(a *Arm) { a.Tokens = 0 }) },
			"- No law on books: the training FLOPs of size-0/arm-0 are not known: another version wrote this table, and " +
				"`headroom compare --collect DIR` writes it anew."},
		{"the baseline lacks sizes", func(c *Comparison) {
			each(c, "arm-0", "size-1", lost)
			each(c, "arm-0", "size-3", lost)
		},
			"- No law on books: arm-0 has results at 2 of 4 sizes, and a law takes 3."},
		{"an arm lacks sizes", func(c *Comparison) { each(c, "arm-1", "size-1", lost); each(c, "arm-1", "size-3", lost) },
			"- books: arm-1 has results at 2 of 4 sizes, and a law takes 3: the arm is left out."},
		{"an arm lacks a size", func(c *Comparison) { each(c, "arm-1", "size-3", lost) },
			"- books: arm-1 has no results at size-3: the size is left out."},
		{"arms lack different sizes", func(c *Comparison) {
			each(c, "arm-1", "size-3", lost)
			each(c, "arm-2", "size-0", lost)
		},
			"- No law on books: arm-2 has no results at size-0: the size is left out; arm-1 has no results at size-3: the " +
				"size is left out; it takes 3 sizes at which these arms have results, and there are 2."},
		{"a run is missing", func(c *Comparison) { each(c, "arm-2", "size-1", func(a *Arm) { a.Trials = a.Trials[1:] }) },
			"- books: at size-1, 2 of 3 seeds have a result of every arm: the others are left out."},
		{"no seed in common", func(c *Comparison) {
			each(c, "arm-2", "size-1", func(a *Arm) { a.Trials = a.Trials[1:2] })
			each(c, "arm-1", "size-1", func(a *Arm) { a.Trials = a.Trials[:1] })
		}, "- books: no seed at size-1 has a result of every arm: the size is left out."},
		{"the losses of an arm rise", func(c *Comparison) {
			each(c, "arm-1", "size-3", func(a *Arm) {
				for i := range a.Trials {
					a.Trials[i].Perplexity["books"] = math.Exp(9)
				}
			})
		}, "at size-0 to 9.0000 at size-3: the arm is left out."},
		{"the losses of the baseline rise", func(c *Comparison) {
			each(c, "arm-0", "size-3", func(a *Arm) {
				for i := range a.Trials {
					a.Trials[i].Perplexity["books"] = math.Exp(9)
				}
			})
		}, "- No law on books: losses of arm-0 do not fall over the sizes, from "},
		{"all losses are the same", func(c *Comparison) {
			each(c, "", "", func(a *Arm) {
				for i := range a.Trials {
					a.Trials[i].Perplexity["books"] = 9
				}
			})
		}, "- No law on books: losses of arm-0 do not fall over the sizes, from 2.1972 at size-0 to 2.1972 at size-3."},
		{"losses of none", func(c *Comparison) {
			each(c, "", "", func(a *Arm) {
				for i := range a.Trials {
					a.Trials[i].Perplexity["books"] = 1 - a.FLOPs*1e-18
				}
			})
		}, "- No law on books: no curve of this form that falls with FLOPs goes through the losses."},
		{"one number of FLOPs", func(c *Comparison) { each(c, "", "", func(a *Arm) { a.FLOPs = 1e9 }) },
			"- No law on books: the trainings of arm-0 at its 4 sizes have but 1 different numbers of FLOPs, and it takes 3 " +
				"(at least 5% apart)."},
		{"tokens per parameter", func(c *Comparison) { each(c, "", "size-3", func(a *Arm) { a.Parameters *= 2 }) },
			"- WARNING: books: tokens per parameter are not held: arm-0 has 20 at size-0, 20 at size-1, 20 at size-2, 10 at " +
				"size-3. The law mixes what parameters and what tokens do, and predicts nothing for another mixture."},
		{"another form", func(c *Comparison) {
			each(c, "", "size-1", func(a *Arm) {
				for i := range a.Trials {
					a.Trials[i].Perplexity["books"] *= math.Exp(0.1)
				}
			})
		}, "- WARNING: books: the sizes miss the law by more than their seeds scatter (p 0.0005; chance does so at most " +
			"one time in twenty): their losses may have another form, and the intervals know nothing of that."},
		{"losses that fall faster and faster", func(c *Comparison) {
			for size := range 4 {
				each(c, "", fmt.Sprintf("size-%d", size), func(a *Arm) {
					for i := range a.Trials {
						a.Trials[i].Perplexity["books"] = math.Exp(5 - 0.2*float64(size*size) - 0.1*float64(size) + 0.01*float64(i))
					}
				})
			}
		}, "- WARNING: books: E lies at the edge of what it may be, from 0 to the least loss: these sizes do not tell " +
			"where losses level off, and exponents depend on it."},
		{"single seeds", func(c *Comparison) { each(c, "", "", func(a *Arm) { a.Trials = a.Trials[:1] }) },
			"- books: too few runs for an interval: more seeds, or more sizes, tell what a law is worth."},
		{"three sizes", func(c *Comparison) { c.Arms = c.Arms[:9] },
			"- books: no size is held against a prediction of the others: that takes 4 sizes."},
	} {
		table, _ := climb{arms: 2, seeds: []int{3, 3, 3, 3}, noise: 0.01}.draw(rand.New(rand.NewPCG(5, 6)))
		c.damage(table)
		scored(t, table)
		if text := table.Text(); strings.Count(text, c.want) != 1 || strings.Contains(text, "NaN") ||
			strings.Contains(text, "Inf") {
			t.Errorf("%s: no line %q in\n%s", c.name, c.want, text)
		}
		comesBack(t, c.name, table)
	}
	// A comparison without sizes says nothing of laws. Losses that are no numbers are none, and cannot be written as JSON
	// anyway.
	if text := scored(t, example([]Trial{trial(1, 2)}, []Trial{trial(1, 2.05)})).Text(); strings.Contains(text, "aw") {
		t.Errorf("got\n%s", text)
	}
	table, _ := climb{arms: 1, seeds: []int{2, 2, 2, 2}, noise: 0.01}.draw(rand.New(rand.NewPCG(5, 6)))
	for i, p := range []float64{math.NaN(), math.Inf(1), -1} {
		table.Arms[2*i+1].Trials[0].Perplexity["books"] = p
	}
	if got := scored(t, table).Laws[0].Seeds; !reflect.DeepEqual(got, []int{1, 1, 1, 2}) ||
		strings.Count(table.Text(), "1 of 2 seeds have a result of every arm") != 3 {
		t.Errorf("got %v in\n%s", got, table.Text())
	}
}

// comesBack says that the laws of a comparison are the same after it was written and read.
func comesBack(t *testing.T, name string, c *Comparison) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	var again Comparison
	if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(again.Laws, c.Laws) {
		t.Errorf("%s: %v: %s", name, err, text)
	}
	if scored(t, &again); !reflect.DeepEqual(again.Laws, c.Laws) {
		t.Errorf("%s: another score gives %+v, not %+v", name, again.Laws, c.Laws)
	}
}

func TestLawTable(t *testing.T) {
	s := climb{arms: 2, seeds: []int{3, 3, 3, 2}, noise: 0.004}
	truth := scaling{e: 2, a: []float64{0.1, 0, 0.1}, b: []float64{0.2, 0.2, 0.2}}
	text := scored(t, s.around(truth, rand.New(rand.NewPCG(1, 2)))).Text()
	_, text, _ = strings.Cut(text, "\nLaw ")
	want := `over the sizes: loss = E + A·(C/C0)^-a, where C is the training FLOPs:

arm    set         E       A  exponent a  speed-up over arm-0     found
arm-0  books  2.0053  0.5521      0.1999  -                       baseline
arm-1  books  2.0053  0.4959      0.2014  1.711 (1.664 to 1.758)  better
arm-2  books  2.0053  0.5508      0.2005  1.012 (0.986 to 1.038)  not resolved

Losses that the law predicts, and what was measured:

arm    set    size                     training FLOPs  predicted                  measured  inside the interval
arm-0  books  size-3, from the others  3.16e+17        2.5570 (2.5398 to 2.5742)    2.5573  yes
arm-0  books  beyond size-3            3.16e+18        2.3537 (2.3420 to 2.3654)         -  -
arm-1  books  size-3, from the others  3.26e+17        2.4977 (2.4812 to 2.5142)    2.4987  yes
arm-1  books  beyond size-3            3.26e+18        2.3153 (2.3045 to 2.3261)         -  -
arm-2  books  size-3, from the others  3.36e+17        2.5493 (2.5330 to 2.5655)    2.5492  yes
arm-2  books  beyond size-3            3.36e+18        2.3483 (2.3373 to 2.3593)         -  -

- The law on books is fitted to size-0 (3 seeds), size-1 (3 seeds), size-2 (3 seeds), size-3 (2 seeds). C0 is 3.16e+17 FLOPs, a training of arm-0 at size-3.
- E: the loss that no amount of training gets below, by the law; all arms share it. A: what an arm's law has above it at C0, in nats a token. exponent a: how fast that falls as FLOPs grow.
- speed-up: how many times an arm's training FLOPs arm-0 needs for the loss that the arm has at the largest size; above 1 the arm is better. In brackets its interval; those of all arms and sets hold together with a chance of 90% (bootstrap over the seeds and sizes with normal scatter, Bonferroni). found: not resolved where the interval holds 1, or there is none.
- predicted: the mean loss of as many seeds as the largest size has, and its 90% interval, each by itself: at the largest size by the law of all others, and as far beyond it as the sizes are apart.
`
	if text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}
