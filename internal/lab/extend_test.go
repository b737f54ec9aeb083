package lab

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"headroom/eval"
)

// bowl leaves the runs that an arm's rates lack, with losses that have their least at a rate.
func bowl(t *testing.T, c *Compare, arm int, best float64) {
	t.Helper()
	a := c.Arms[arm]
	for _, lr := range c.rates(a) {
		for _, seed := range c.Seeds[:c.LRSeeds] {
			if r := c.at(a, seed, lr); !exists(filepath.Join(r.Dir, resultName)) {
				u := math.Log2(lr / best)
				leave(t, r, map[string]float64{"fox": 3 + 0.1*u*u + 0.01*float64(seed)})
			}
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func extending(t *testing.T, dir, lr string, extend bool) *Compare {
	t.Helper()
	c, err := Order{Extend: extend, Out: filepath.Join(dir, "runs")}.open(context.Background(),
		[]byte(comparison(dir, "lr: "+lr+"\n")), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.settle(); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRatesAreExtended: rates are added on the side of the optimum, in the ratio of the file's, until it is inside;
// another call knows them, also one without the flag, which adds none.
func TestRatesAreExtended(t *testing.T) {
	dir := shards(t)
	c := extending(t, dir, "[2e-3, 1e-3]", true)
	for range 10 {
		bowl(t, c, 0, 5e-3)
		bowl(t, c, 1, 4e-4)
		if !c.extend() {
			break
		}
	}
	if want := []float64{1e-3, 2e-3, 4e-3, 8e-3}; !slices.Equal(c.rates(c.Arms[0]), want) {
		t.Errorf("the rates are %v, not %v", c.rates(c.Arms[0]), want)
	}
	if want := []float64{2.5e-4, 5e-4, 1e-3, 2e-3}; !slices.Equal(c.rates(c.Arms[1]), want) {
		t.Errorf("the rates are %v, not %v", c.rates(c.Arms[1]), want)
	}
	if _, err := (Launch{On: "slurm", Self: "headroom"}).Write(c); err != nil {
		t.Fatal(err)
	}
	if jobs, err := os.ReadFile(filepath.Join(c.Dir, "slurm", "submit.sh")); err != nil ||
		!strings.Contains(string(jobs), "--array=1-16 ") {
		// 4 rates, 2 seeds, 2 arms
		t.Errorf("%v in\n%s", err, jobs)
	}
	again := extending(t, dir, "[2e-3, 1e-3]", false)
	if again.extend() || !slices.Equal(again.Added, c.Added) {
		t.Errorf("another call has %v, not %v", again.Added, c.Added)
	}
	table, err := again.Collect()
	if err != nil {
		t.Fatal(err)
	}
	if a := table.Arms[0]; a.LR != 4e-3 || len(a.Rates) != 4 || a.Edge != "" || len(a.Trials) != 2 ||
		math.Abs(a.Optimum.LR-5e-3) > 1e-6 {
		t.Errorf("the table has %g of %v, %q, %+v", a.LR, a.Rates, a.Edge, a.Optimum)
	}
}

// TestExtensionIsBounded: an arm that gets ever better stops after some rates, and one that a rate fails with stops
// there.
func TestExtensionIsBounded(t *testing.T) {
	dir := shards(t)
	c := extending(t, dir, "[1e-3, 3e-3]", true)
	for range 10 {
		bowl(t, c, 0, 1e9)
		last := slices.Max(c.rates(c.Arms[1]))
		if len(c.rates(c.Arms[1])) > 2 {
			for _, seed := range c.Seeds {
				r := c.at(c.Arms[1], seed, last)
				if err := r.fail(os.ErrInvalid); err == nil {
					t.Fatal("no failure")
				}
			}
		} else {
			bowl(t, c, 1, 1e9)
		}
		if !c.extend() {
			break
		}
	}
	if all := c.rates(c.Arms[0]); len(all) != 2+eval.MostBeyond || slices.Max(all) != 0.243 {
		t.Errorf("the rates are %v", all)
	}
	if all := c.rates(c.Arms[1]); !slices.Equal(all, []float64{1e-3, 3e-3, 9e-3}) {
		t.Errorf("with a rate that failed they are %v", all)
	}
	if n := c.extensions(c.Arms[1]); n != 2*(2*eval.MostBeyond-1) {
		t.Errorf("at most %d runs more", n)
	}
}

func TestExtensionNeedsARatio(t *testing.T) {
	dir := shards(t)
	for _, lr := range []string{"", "lr: [1e-3]\n"} {
		_, err := Order{Extend: true}.open(context.Background(), []byte(comparison(dir, lr)), dir)
		if err == nil || !strings.Contains(err.Error(), "lr, which must list at least two, not ") {
			t.Errorf("%q: %v", lr, err)
		}
	}
}

// TestExtendedRatesAreTrained goes all the way: rates that are too small are extended upward, the runs are kept
// elsewhere, and a machine without them takes them back and trains nothing again.
func TestExtendedRatesAreTrained(t *testing.T) {
	dir := shards(t)
	text := comparison(dir, "lr: [1e-6, 1e-5]\nlr_seeds: 1\n")
	open := func() *Compare {
		c, err := Order{Extend: true, Keep: filepath.Join(dir, "kept"), Out: filepath.Join(dir, "runs")}.open(
			context.Background(), []byte(text), dir)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	whole := do(t, open())
	plan, err := Planned(filepath.Join(dir, "kept"))
	if err != nil || len(plan.Added) < 4 {
		t.Fatalf("the plan kept has %v, %v", plan, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "runs")); err != nil {
		t.Fatal(err)
	}
	if again := do(t, open()); again != whole {
		t.Errorf("from the results kept\n%s\nnot\n%s", again, whole)
	}
	for path := range files(t, filepath.Join(dir, "runs")) {
		if strings.Contains(path, "checkpoint") {
			t.Fatalf("trained again: %s", path)
		}
	}
}
