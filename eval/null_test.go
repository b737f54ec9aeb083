package eval

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
)

func groups(r *rand.Rand, n, seeds, sets int, tails float64) ([]Arm, []string) {
	c := study{arms: n - 1, sets: sets, same: 0.8, seeds: seeds, tails: tails}.draw(r, make([]float64, n))
	return c.Arms, c.Sets
}

// TestNullTellsTheRate draws many null comparisons: the part found is right in the mean, and its interval holds the
// true part at least as often as it says, though the pairs have runs in common.
func TestNullTellsTheRate(t *testing.T) {
	for i, c := range []struct {
		groups, seeds, sets int
		tails, truth        float64
	}{{8, 3, 1, 0, 0.05}, {4, 2, 1, 0, 0.05}, {8, 3, 2, 3, 0.041}} {
		r := rand.New(rand.NewPCG(4, uint64(i)))
		const nulls = 60
		var part, independent float64
		held, apart := 0, 0
		for range nulls {
			arms, sets := groups(r, c.groups, c.seeds, c.sets, c.tails)
			n, err := newNull(arms, sets, 1000)
			if err != nil {
				t.Fatal(err)
			}
			if n.Runs != c.groups*c.seeds || n.Apart.Pairs != c.groups/2 || n.Seeds != c.seeds {
				t.Fatalf("got %+v", n)
			}
			part += float64(n.All.Found) / float64(n.All.Pairs) / nulls
			independent += n.All.Independent / nulls
			held += count(n.All.Interval[0] <= c.truth && c.truth <= n.All.Interval[1])
			apart += count(n.Apart.Interval[0] <= c.truth && c.truth <= n.Apart.Interval[1])
		}
		t.Logf("%+v: %.1f%% found, %d and %d of %d intervals hold, as %.0f pairs", c, 100*part, held,
			apart, nulls, independent)
		between(t, "false findings", part, c.truth-0.01, c.truth+0.01)
		between(t, "intervals that hold", float64(held)/nulls, 0.94, 1)
		between(t, "intervals of pairs apart that hold", float64(apart)/nulls, 0.94, 1)
		if independent < 3*float64(c.groups/2) {
			t.Errorf("all pairs tell no more than %.0f", independent)
		}
	}
}

// TestClopperPearson: by published tables 1 of 20 has the interval from 0.13 to 24.87%, and 0 of 10 from 0 to 30.85%.
func TestClopperPearson(t *testing.T) {
	for _, c := range []struct {
		share     Share
		low, high float64
	}{{Share{Pairs: 20, Found: 1, Independent: 20}, 0.00127, 0.24873}, {Share{Pairs: 10, Independent: 10}, 0, 0.30850},
		{Share{}, 0, 1}} {
		c.share.bound()
		near(t, "low", c.share.Interval[0], c.low, 1e-5)
		near(t, "high", c.share.Interval[1], c.high, 1e-5)
	}
}

// TestNullOfAFalseTest: where the test claims less than it finds, the words say so.
func TestNullOfAFalseTest(t *testing.T) {
	arms, sets := groups(rand.New(rand.NewPCG(1, 1)), 8, 3, 1, 0)
	arms[3].Failures = []Failure{{2, "diverged"}}
	arms[3].Trials = arms[3].Trials[:2]
	n, err := newNull(arms, sets, 4000)
	if err != nil {
		t.Fatal(err)
	}
	n.Name, n.Arm, n.LR = "kinds", "gqa-4", 2e-3
	for claimed, want := range map[float64]string{0.05: "These runs agree with that, and with anything from ",
		0.005: "It finds more: ", 0.2: "It finds no more."} {
		if n.Claimed = claimed; !strings.Contains(n.Text(), want) {
			t.Errorf("no %q in\n%s", want, n.Text())
		}
	}
	for _, want := range []string{
		"kinds: gqa-4 against itself on set-0, 3 seeds a pair, learning rate 0.002; 23 runs in 8 groups",
		"without a run in common", "seed 2 failed: diverged"} {
		if !strings.Contains(n.Text(), want) {
			t.Errorf("no %q in\n%s", want, n.Text())
		}
	}
	if text, err := json.Marshal(n); err != nil || !strings.Contains(string(text), `"pairs_apart":{"pairs":4,`) {
		t.Errorf("%s, %v", text, err)
	}
	if _, err := NewNull(arms[:1], sets); err == nil ||
		!strings.Contains(err.Error(), "needs two seeds at least that two groups have finished, not 0") {
		t.Errorf("one group: %v", err)
	}
}
