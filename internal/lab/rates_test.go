package lab

import (
	"context"
	"os"
	"path/filepath"
	"testing"

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
		result.Sets = append(result.Sets, eval.Result{Set: set, NLL: loss})
	}
	if err := replace(filepath.Join(r.Dir, configName), []byte(r.Config.YAML())); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(r.Dir, resultName), result); err != nil {
		t.Fatal(err)
	}
}

// TestRateIsChosenOnValidation: a learning rate is the best by the sets that training watches; what only the end is measured on has no say.
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
