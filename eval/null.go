package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"
)

// A Null is what the test of a comparison finds between runs of one arm, which differ in nothing but how their weights
// start. Whatever it finds is false.
type Null struct {
	Name     string    `json:"name"`
	Arm      string    `json:"arm"`
	LR       float64   `json:"lr"`
	Sets     []string  `json:"sets"`
	Seeds    int       `json:"seeds"`  // of a pair
	Groups   int       `json:"groups"` // of as many runs, two of which are a pair
	Runs     int       `json:"runs"`
	Claimed  float64   `json:"claimed"` // the part of pairs in which the test may find a difference
	Apart    Share     `json:"pairs_apart"`
	All      Share     `json:"all_pairs"`
	Failures []Failure `json:"failures,omitempty"`
}

// A Share is in how many pairs a difference was found, and the 95% interval of the part that would be of very many.
type Share struct {
	Pairs       int        `json:"pairs"`
	Found       int        `json:"found"`
	Independent float64    `json:"independent"` // pairs without a run in common that would tell as much
	Interval    [2]float64 `json:"interval"`
}

// pairings is how many pairs are drawn of any runs with the same seeds.
const pairings = 20000

// NewNull tests groups of runs of one arm, each with the same seeds, against each other as Score does. Neighbours have
// no run in common, so that Clopper and Pearson's interval holds for them as it stands. More is learnt from pairs that
// take either side's run of each seed from any group: these have runs in common, so how much they tell comes from what
// leaving out each run in turn does to their result (the jackknife). That is less than the truth: 24 runs of three
// seeds tell as much as about 340 independent pairs, which takes 2,000 runs, and count as about 150 here.
func NewNull(groups []Arm, sets []string) (*Null, error) { return newNull(groups, sets, pairings) }

func newNull(groups []Arm, sets []string, pairings int) (*Null, error) {
	n := &Null{Sets: sets, Groups: len(groups), Claimed: significant}
	bySeed := map[uint64][]Trial{}
	var seeds []uint64
	for _, g := range groups {
		n.Failures = append(n.Failures, g.Failures...)
		for _, t := range g.Trials {
			if len(bySeed[t.Seed]) == 0 {
				seeds = append(seeds, t.Seed)
			}
			bySeed[t.Seed] = append(bySeed[t.Seed], t)
			n.Runs++
		}
	}
	var pool [][]Trial
	for _, seed := range seeds {
		if len(bySeed[seed]) > 1 {
			pool = append(pool, bySeed[seed])
		}
	}
	if n.Seeds = len(pool); n.Seeds < 2 {
		return nil, fmt.Errorf("eval: a test needs two seeds at least that two groups have finished, not %d", n.Seeds)
	}
	for i := 0; i+1 < len(groups); i += 2 {
		found, tested, err := findsAny(groups[i].Trials, groups[i+1].Trials, sets)
		if err != nil {
			return nil, err
		}
		if tested {
			n.Apart.Pairs++
			if found {
				n.Apart.Found++
			}
		}
	}
	n.Apart.Independent = float64(n.Apart.Pairs)
	n.Apart.bound()
	return n, n.draw(pool, pairings)
}

// findsAny tests two groups of runs against each other, on all sets. Tested says that they have seeds enough in common.
func findsAny(x, y []Trial, sets []string) (found, tested bool, err error) {
	c := &Comparison{Baseline: "one", Sets: sets, Arms: []Arm{{Name: "one", Trials: x}, {Name: "other", Trials: y}}}
	if err := c.Score(); err != nil {
		return false, false, err
	}
	for _, d := range c.Arms[1].Difference {
		found, tested = found || d.Found(), tested || d.N > 1
	}
	return found, tested, nil
}

// A tally is what the pairs show that one run is in.
type tally struct{ pairs, found int }

// draw tests pairs of runs from the pool of each seed.
func (n *Null) draw(pool [][]Trial, pairings int) error {
	r := rand.New(rand.NewPCG(1, uint64(n.Runs)))
	with := make([][]tally, len(pool)) // by seed and run
	for s, runs := range pool {
		with[s] = make([]tally, len(runs))
	}
	x, y := make([]Trial, len(pool)), make([]Trial, len(pool))
	taken := make([][2]int, len(pool))
	for range pairings {
		for s, runs := range pool {
			i := r.IntN(len(runs))
			j := (i + 1 + r.IntN(len(runs)-1)) % len(runs)
			taken[s], x[s], y[s] = [2]int{i, j}, runs[i], runs[j]
		}
		found, _, err := findsAny(x, y, n.Sets)
		if err != nil {
			return err
		}
		n.All.Pairs++
		if found {
			n.All.Found++
		}
		for s, both := range taken {
			for _, run := range both {
				with[s][run].pairs++
				if found {
					with[s][run].found++
				}
			}
		}
	}
	variance := n.jackknife(with)
	part := float64(n.All.Found) / float64(n.All.Pairs)
	n.All.Independent = float64(n.Apart.Pairs) // the mean over all pairs tells no less than that over a few of them
	if variance > 0 {
		n.All.Independent = min(float64(n.All.Pairs), max(n.All.Independent, part*(1-part)/variance))
	}
	n.All.bound()
	return nil
}

// jackknife is the variance of the part of all pairs, by leaving out each run of each seed in turn.
func (n *Null) jackknife(with [][]tally) (variance float64) {
	for s := range with {
		var left []float64
		for _, t := range with[s] {
			if t.pairs < n.All.Pairs {
				left = append(left, float64(n.All.Found-t.found)/float64(n.All.Pairs-t.pairs))
			}
		}
		k, m := float64(len(left)), Mean(left).Mean
		for _, v := range left {
			variance += (k - 1) / k * (v - m) * (v - m)
		}
	}
	return variance
}

// bound is Clopper and Pearson's interval for as many pairs as tell independently.
func (s *Share) bound() {
	s.Interval = [2]float64{0, 1}
	if s.Pairs == 0 {
		return
	}
	part := float64(s.Found) / float64(s.Pairs)
	found, not := part*s.Independent, (1-part)*s.Independent
	if s.Found > 0 {
		s.Interval[0] = distuv.Beta{Alpha: found, Beta: not + 1}.Quantile(significant / 2)
	}
	if s.Found < s.Pairs {
		s.Interval[1] = distuv.Beta{Alpha: found + 1, Beta: not}.Quantile(1 - significant/2)
	}
}

// Text is what the comparison shows, for a terminal.
func (n *Null) Text() string { return terminal(n) }

// Markdown is what it shows as a page.
func (n *Null) Markdown() string { return document(n.Name, n) }

func (n *Null) write(s *strings.Builder, table func(*strings.Builder, [][]string)) {
	rate := ""
	if n.LR > 0 {
		rate = fmt.Sprintf(", learning rate %g", n.LR)
	}
	fmt.Fprintf(s,
		"%s: %s against itself on %s, %d seeds a pair%s; %d runs in %d groups, which differ in how weights start.\n\n",
		n.Name, n.Arm, strings.Join(n.Sets, ", "), n.Seeds, rate, n.Runs, n.Groups)
	table(s, [][]string{
		{"pairs", "tested", "found", "part found", "95% interval", "independent pairs that tell as much"},
		n.Apart.row("without a run in common"), n.All.row("of any runs with the same seeds"),
	})
	fmt.Fprintf(s, "\nEvery difference found is false; the test says that it finds one in at most %g%% of pairs. %s\n",
		100*n.Claimed, n.verdict())
	for _, f := range n.Failures {
		fmt.Fprintf(s, "\nseed %d failed: %s\n", f.Seed, f.Reason)
	}
}

func (s Share) row(name string) []string {
	part := math.NaN()
	if s.Pairs > 0 {
		part = 100 * float64(s.Found) / float64(s.Pairs)
	}
	return []string{name, thousands(int64(s.Pairs)), thousands(int64(s.Found)), fmt.Sprintf("%.1f%%", part),
		fmt.Sprintf("%.1f to %.1f%%", 100*s.Interval[0], 100*s.Interval[1]), fmt.Sprintf("%.0f", s.Independent)}
}

// verdict holds the measured part against what is claimed.
func (n *Null) verdict() string {
	switch low, high := n.All.Interval[0], n.All.Interval[1]; {
	case low > n.Claimed:
		return "It finds more: its p-values are too small for these runs."
	case high <= n.Claimed:
		return "It finds no more."
	default:
		return fmt.Sprintf("These runs agree with that, and with anything from %.1f to %.1f%%.", 100*low, 100*high)
	}
}
