package eval

import (
	"encoding/json"
	"strings"
	"testing"
)

func trial(seed uint64, books float64) Trial {
	return Trial{Seed: seed, Perplexity: map[string]float64{"books": books}, TokensPerSecond: 1000 * float64(seed)}
}

func example(trials ...[]Trial) *Comparison {
	c := &Comparison{Name: "kinds", Baseline: "gqa-4", Sets: []string{"books"}}
	for i, t := range trials {
		name := []string{"gqa-4", "gta-4", "gla-2"}[i]
		c.Arms = append(c.Arms, Arm{Name: name, Attention: name, Parameters: 1234567, CacheBytes: 1024, Trials: t})
	}
	return c
}

func TestScorePairsBySeed(t *testing.T) {
	// gta-4 lacks seed 2 and lists its seeds in another order; gla-2 is better by 1 at each seed, give or take.
	c := example(
		[]Trial{trial(1, 20), trial(2, 30), trial(3, 22)},
		[]Trial{trial(3, 23), trial(1, 21.5)},
		[]Trial{trial(1, 19), trial(2, 29.02), trial(3, 20.98)},
	)
	if err := c.Score(); err != nil {
		t.Fatal(err)
	}
	gta, gla := c.Arms[1].Difference["books"], c.Arms[2].Difference["books"]
	near(t, "gta-4", gta.Mean, 1.25, 1e-12)
	if gta.N != 2 || gta.Found() {
		t.Errorf("gta-4: %+v", gta)
	}
	near(t, "gla-2", gla.Mean, -1, 1e-12)
	near(t, "corrected p of gla-2", gla.P, 2*Paired([]float64{19, 29.02, 20.98}, []float64{20, 30, 22}).P, 1e-12)
	if !gla.Found() {
		t.Errorf("gla-2: %+v", gla)
	}
	if _, ok := c.Arms[0].Difference["books"]; ok {
		t.Error("the baseline differs from itself")
	}
	near(t, "tokens/s", c.Arms[0].TokensPerSecond.Mean, 2000, 1e-9)
}

func TestScoreNeedsItsBaseline(t *testing.T) {
	c := example(nil)
	c.Baseline = "mha"
	if err := c.Score(); err == nil || err.Error() != `eval: the baseline "mha" is not among the arms` {
		t.Errorf("got %v", err)
	}
}

func TestText(t *testing.T) {
	c := example(
		[]Trial{trial(1, 20), trial(2, 30), trial(3, 22)},
		[]Trial{trial(1, 20.1), trial(2, 29.8), trial(3, 22)},
		[]Trial{trial(1, 19), trial(2, 29.02), trial(3, 20.98)},
	)
	c.Arms[2].Failures = []Failure{{Seed: 4, Reason: "train: step 7 has loss NaN"}}
	if err := c.Score(); err != nil {
		t.Fatal(err)
	}
	want := `arm               attention  parameters  cache B/token/layer  perplexity books  training tokens/s
gqa-4             gqa-4       1,234,567                1,024   24.000 ± 13.145              2,000
gta-4             gta-4       1,234,567                1,024   23.967 ± 12.769              2,000
gla-2 (1 failed)  gla-2       1,234,567                1,024   23.000 ± 13.182              2,000

Difference in perplexity to gqa-4, paired by seed (95% intervals by Student's t, then by bootstrap; p after Holm's correction over the arms):

arm    books
gta-4  no difference found: -0.033 ± 0.379, bootstrap -0.200 to +0.100, p 0.74; 3 seeds resolve 0.50
gla-2  -1.000 ± 0.050, bootstrap -1.020 to -0.980, p 0.00027

gla-2, seed 4, failed: train: step 7 has loss NaN
`
	if got := c.Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMarkdownOfOneSeed(t *testing.T) {
	c := example([]Trial{trial(1, 20)}, []Trial{trial(1, 20.5)}, nil)
	if err := c.Score(); err != nil {
		t.Fatal(err)
	}
	want := `# kinds

| arm | attention | parameters | cache B/token/layer | perplexity books | training tokens/s |
| --- | --- | ---: | ---: | ---: | ---: |
| gqa-4 | gqa-4 | 1,234,567 | 1,024 | 20.000 | 1,000 |
| gta-4 | gta-4 | 1,234,567 | 1,024 | 20.500 | 1,000 |
| gla-2 | gla-2 | 1,234,567 | 1,024 | - | - |

Difference in perplexity to gqa-4, paired by seed:

| arm | books |
| --- | --- |
| gta-4 | +0.500 (one seed: no interval) |
| gla-2 | - |
`
	if got := c.Markdown(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestComparisonIsJSON(t *testing.T) {
	c := example([]Trial{trial(1, 20), trial(2, 21)}, []Trial{trial(1, 20), trial(2, 21)}, nil)
	if err := c.Score(); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"difference":{"books":{"mean":0,"n":2,"p":1}}`) {
		t.Errorf("got %s", text)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 183454464: "183,454,464", -100000: "-100,000"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is written %s", n, got)
		}
	}
}
