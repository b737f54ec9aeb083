package eval

import (
	"strings"
	"testing"
)

func TestBestRate(t *testing.T) {
	failed := []Failure{{1, "diverged"}}
	for _, c := range []struct {
		name  string
		rates []Rate
		want  int
	}{
		{"the least mean", []Rate{{1, []float64{3, 5}, nil}, {2, []float64{3.5, 4}, nil}, {4, []float64{9, 0.1}, nil}}, 1},
		{"a rate that one run failed with is none", []Rate{{1, []float64{3}, nil}, {2, []float64{2}, failed}}, 0},
		{"all failed", []Rate{{1, nil, failed}, {2, nil, failed}}, -1},
		{"the first of equals", []Rate{{1, []float64{3}, nil}, {2, []float64{3}, nil}}, 0},
		{"none", nil, -1},
	} {
		if got := BestRate(c.rates); got != c.want {
			t.Errorf("%s: got %d, not %d", c.name, got, c.want)
		}
	}
}

// A comparison of two sizes pairs each arm with the baseline of its size, and says how the arms were made alike.
func TestSizesAndRates(t *testing.T) {
	c := Comparison{Name: "sizes", Baseline: "gqa-4", Sets: []string{"books"}, Seeds: 3, LRSeeds: 1, Match: "parameters"}
	for i, size := range []string{"small", "wide"} {
		for j, name := range []string{"gqa-4", "gta-4"} {
			a := Arm{Name: name, Size: size, Attention: name, MLP: 64 + 8*j, Parameters: int64(1000 + 10*j), FLOPs: 2000,
				CacheBytes: int64(512 / (j + 1)), LR: 2e-3}
			a.Rates = []Rate{{1e-3, []float64{3}, nil}, {2e-3, []float64{2}, nil}}
			if i == 0 && j == 0 {
				a.LR, a.Rates = 1e-3, []Rate{{5e-4, []float64{4}, nil}, {1e-3, []float64{3}, nil},
					{2e-3, nil, []Failure{{1, "no number"}}}}
			}
			for seed := range uint64(3) {
				a.Trials = append(a.Trials, Trial{
					Seed: seed, Perplexity: map[string]float64{"books": 20 - 5*float64(i) + float64(j) +
						0.01*float64(seed)*float64(1+j)},
					More: []Measure{{"piqa", 0.5 + 0.1*float64(seed), 0.02}}})
			}
			a.Decode = []Decode{{Batch: 8, Context: 512, TokensPerSecond: Mean([]float64{900, 1000, 1100})},
				{Batch: 1, Context: 512, Failure: "no memory"}}
			c.Arms = append(c.Arms, a)
		}
	}
	if err := c.Score(); err != nil {
		t.Fatal(err)
	}
	text := c.Text()
	for _, want := range []string{
		"small/gta-4  books  +0.0492 ± 0.0011  +5.05%", "wide/gta-4   books  +0.0651 ± ",
		"holds for the one difference at its size", "wide/gta-4   gta-4           1,010", "0.600 ± 0.248", "1,000 ± 249",
		"MLP widths, fitted to the parameters of gqa-4: small/gqa-4 64, small/gta-4 72 (+1.00% parameters, +0.00% FLOPs), " +
			"wide/gqa-4 64, ",
		"Learning rates: each arm has the best of its own by validation loss on 1 of its 3 seeds; the other seeds trained " +
			"at that one alone.",
		"At the edge: extend the rates of small/gta-4 (higher), wide/gqa-4 (higher), wide/gta-4 (higher): a better one may " +
			"lie beyond those tried. compare --extend-rates tries up to 4 more on a side; others go into lr.",
		"small/gqa-4  0.0005 0.001 0.002 (failed)  0.001        -             -  inside\n",
		"small/gta-4  0.001 0.002                  0.002        -             -  at the edge: higher\n",
		"- small/gqa-4: no parabola: it takes three rates, and 2 of 3 finished with every seed.\n",
		"- small/gta-4, wide/gqa-4, wide/gta-4: no parabola: it takes three rates, and 2 were tried.\n",
		"small/gqa-4, learning rate 0.002, seed 1, failed: no number", "wide/gta-4, decode 1 x 512, failed: no memory",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if got := c.Front("books"); !got[0] || !got[1] || !got[2] || !got[3] {
		t.Errorf("the front of a size has arms of another before it: %v", got)
	}
	c.Arms[3].Size = "tall"
	if err := c.Score(); err == nil || err.Error() != `eval: the baseline "tall/gqa-4" is not among the arms` {
		t.Errorf("got %v", err)
	}
}
