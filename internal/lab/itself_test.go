package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBaselineAgainstItself: groups of the baseline's runs lie in a folder of their own; the first has the comparison's
// results, the others start from other weights and read their data in the same order. What is there is used again, by
// more pairs and from the results kept.
func TestBaselineAgainstItself(t *testing.T) {
	dir := shards(t)
	text := comparison(dir, "lr: [1e-3, 2e-3]\n")
	whole := kept(t, dir, text)
	if _, err := whole.Itself(2); err == nil ||
		!strings.Contains(err.Error(), "--null trains a at its best learning rate, so it needs the comparison's runs first") {
		t.Errorf("before the comparison: %v", err)
	}
	do(t, whole)
	before := files(t, dir)
	var shown string
	for _, pairs := range []int{1, 2} {
		c, err := kept(t, dir, text).Itself(pairs)
		if err != nil {
			t.Fatal(err)
		}
		n, err := c.Null(context.Background(), Jobs{})
		if err != nil {
			t.Fatal(err)
		}
		if n.Groups != 2*pairs || n.Runs != 4*pairs || n.Apart.Pairs != pairs || n.Arm != "a" || n.All.Pairs == 0 ||
			n.LR == 0 {
			t.Errorf("got %+v", n)
		}
		shown = n.Text()
		for _, arm := range c.Arms {
			for _, seed := range c.Seeds {
				r := c.at(arm, seed, 0)
				if r.Config.Data.Seed != seed || r.Config.Train.Seed != seed+arm.Start || r.Config.Train.LR != n.LR {
					t.Errorf("%s starts from %d and %d", r.Dir, r.Config.Train.Seed, r.Config.Data.Seed)
				}
				trained := exists(filepath.Join(r.Dir, "checkpoints"))
				if trained == (arm.Name == "group-1") {
					t.Errorf("%s: trained is %v", r.Dir, trained)
				}
			}
		}
	}
	after := files(t, dir)
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s of the comparison is another", path)
		}
	}

	if err := os.RemoveAll(filepath.Join(dir, "runs")); err != nil {
		t.Fatal(err)
	}
	c, err := kept(t, dir, text).Itself(2)
	if err != nil {
		t.Fatal(err)
	}
	n, err := c.Null(context.Background(), Jobs{})
	if err != nil || n.Text() != shown {
		t.Errorf("from the results kept: %v\n%s\nnot\n%s", err, n.Text(), shown)
	}
	for path := range files(t, filepath.Join(dir, "runs")) {
		if strings.Contains(path, "checkpoints") {
			t.Fatalf("trained again: %s", path)
		}
	}
	plan, err := Planned(filepath.Join(dir, "kept", nullName))
	if err != nil || plan.Of != "a" || plan.Arms[1].Start != otherStart {
		t.Fatalf("the plan kept: %+v, %v", plan, err)
	}
	if n, err := plan.CollectNull(); err != nil || n.Text() != shown {
		t.Errorf("the results by themselves: %v", err)
	}
}

func TestItselfNeedsSeeds(t *testing.T) {
	dir := shards(t)
	c, err := Order{}.open(context.Background(),
		[]byte(strings.Replace(comparison(dir, ""), "seeds: [1, 2]", "seeds: [1]", 1)), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Itself(4); err == nil ||
		!strings.Contains(err.Error(), "--null needs two seeds at least, of which a test is made, not 1") {
		t.Errorf("got %v", err)
	}
}
