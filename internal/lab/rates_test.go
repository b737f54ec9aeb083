package lab

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/configs"
	"headroom/data"
	"headroom/eval"
)

// leave puts a finished run into its directory, with these losses.
func leave(t *testing.T, r Run, nll map[string]float64) {
	t.Helper()
	if err := os.MkdirAll(r.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	result := Result{Hash: r.Config.Hash(), Seed: r.Config.Train.Seed, Steps: r.Config.Train.Steps}
	for set, loss := range nll {
		result.Sets = append(result.Sets, eval.Result{Set: set, NLL: loss, Perplexity: math.Exp(loss)})
	}
	if err := replace(filepath.Join(r.Dir, configName), []byte(r.Config.YAML())); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(r.Dir, resultName), result); err != nil {
		t.Fatal(err)
	}
}

// prepared makes shards of a text that repeats a sentence.
func prepared(t *testing.T, dir, name, sentence string) {
	t.Helper()
	file := filepath.Join(dir, name+".txt")
	if err := os.WriteFile(file, []byte(strings.Repeat(sentence, 60)), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := data.Prepare(context.Background(), data.Options{Tokenizer: "bytes", Out: filepath.Join(dir, name),
		Inputs: []string{file}}); err != nil {
		t.Fatal(err)
	}
}

// TestRateIsChosenOnValidation: a learning rate is the best by the sets that training watches; what only the end is
// measured on has no say.
func TestRateIsChosenOnValidation(t *testing.T) {
	dir := shards(t)
	text := comparison(dir, "lr: [1e-3, 2e-3]\n")
	c, err := Order{Sets: []string{"eval.sets.cat=" + dir + "/val"}}.open(context.Background(), []byte(text), dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Dir = filepath.Join(dir, "runs")
	for _, seed := range c.Seeds {
		leave(t, c.at(c.Arms[0], seed, 1e-3), map[string]float64{"fox": 2, "cat": 1})
		leave(t, c.at(c.Arms[0], seed, 2e-3), map[string]float64{"fox": 1.9, "cat": 9})
	}
	if lr, err := c.choose(c.Arms[0]); err != nil || lr != 2e-3 {
		t.Errorf("the rate is %g, %v, not that with the less loss on fox", lr, err)
	}
}

// TestRateIsChosenOnSelect: with eval.select a learning rate is the best by that text alone, which is in no figure of
// the table; where a reported set is among what rates were chosen on, by its name or as the same text under another
// name, the table says so.
func TestRateIsChosenOnSelect(t *testing.T) {
	dir := shards(t)
	for _, c := range []struct {
		name, set, path string
		best            float64
		again           string
	}{
		{"another text", "eval.select.tune", "/other", 1e-3, ""},
		{"the reported text under another name", "eval.select.tune", "/val", 1e-3,
			"WARNING: the rates were chosen on fox, which"},
		{"no selection", "eval.sets.tune", "/other", 2e-3, "WARNING: the rates were chosen on fox, which"},
	} {
		if _, err := os.Stat(dir + c.path); err != nil {
			prepared(t, dir, "other", "pack my box with five dozen liquor jugs. ")
		}
		o := Order{Sets: []string{c.set + "=" + dir + c.path}}
		plan, err := o.open(context.Background(), []byte(comparison(dir, "lr: [1e-3, 2e-3]\n")), dir)
		if err != nil {
			t.Fatal(err)
		}
		plan.Dir = filepath.Join(dir, c.name)
		for _, arm := range plan.Arms {
			for _, seed := range plan.Seeds {
				leave(t, plan.at(arm, seed, 1e-3), map[string]float64{"fox": 2, "tune": 1})
				leave(t, plan.at(arm, seed, 2e-3), map[string]float64{"fox": 1.9, "tune": 9})
			}
		}
		if plan.Texts, err = texts(plan.Arms[0].Config); err != nil {
			t.Fatal(err)
		}
		table, err := plan.Collect()
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		text := table.Text()
		if table.Arms[0].LR != c.best {
			t.Errorf("%s: the rate is %g, not %g", c.name, table.Arms[0].LR, c.best)
		}
		if selects := c.set == "eval.select.tune"; strings.Contains(text, "perplexity tune") == selects ||
			!strings.Contains(text, "perplexity fox") {
			t.Errorf("%s: the table reports the wrong sets:\n%s", c.name, text)
		}
		if warned := strings.Contains(text, "WARNING: the rates were chosen"); warned != (c.again != "") ||
			!strings.Contains(text, c.again) {
			t.Errorf("%s: no %q in\n%s", c.name, c.again, text)
		}
	}
	if _, err := (Order{Sets: []string{"eval.select.fox=" + dir + "/val"}}).open(context.Background(),
		[]byte(comparison(dir, "")), dir); err == nil ||
		!strings.Contains(err.Error(), `eval.select and data.val must have different names, but both have "fox"`) {
		t.Errorf("one name for both: %v", err)
	}
}

// TestPresetsChooseOnATextOfItsOwn: no shipped comparison that tries learning rates reports what it chose them on.
func TestPresetsChooseOnATextOfItsOwn(t *testing.T) {
	for _, name := range configs.Comparisons() {
		c, err := Open(context.Background(), Order{Name: name, Sets: []string{"data.train=shards/train"}})
		if err != nil {
			t.Fatal(err)
		}
		if on, again := c.selected(); len(c.LR) > 0 && (len(on) == 0 || len(again) > 0) {
			t.Errorf("%s chooses on %v and reports %v of it", name, on, again)
		}
	}
}
