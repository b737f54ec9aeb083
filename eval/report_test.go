package eval

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// evil is a name that must not become markup.
const evil = `<script>alert("x")</script>&co`

// sample is a report of three arms, one with an evil name, two of the same cache, and no speed for one.
func sample(t *testing.T) *Report {
	t.Helper()
	r := &Report{Comparison: Comparison{Name: evil, Baseline: "gqa-2", Sets: []string{"books", evil}}}
	for i, name := range []string{"gqa-2", evil, "mla"} {
		a := Arm{Name: name, Attention: name, Parameters: 1000, CacheBytes: []int64{512, 288, 288}[i]}
		a.FLOPs = 1e6 * float64(i+1)
		for j, lr := range []float64{1e-3, 2e-3, 4e-3} {
			a.Rates = append(a.Rates, Rate{LR: lr, NLL: []float64{2 + float64(i) + math.Abs(float64(j-i)), 2.1 + float64(i)}})
		}
		a.LR = a.Rates[i].LR
		a.Decode = []Decode{{Batch: 8, Context: 512, Device: evil, CacheBytes: 1,
			TokensPerSecond: Mean([]float64{100, 110, 120})}}
		for seed := range uint64(2) {
			level := 5 + float64(i) + 0.1*float64(seed)
			a.Trials = append(a.Trials, Trial{Seed: seed, Perplexity: map[string]float64{"books": level, evil: 2 * level},
				TokensPerSecond: 1000 * float64(i), More: []Measure{{evil, level, 0.1}}})
			c := Curve{Arm: name, Seed: seed}
			for step := 1; step <= 40; step++ {
				c.Points = append(c.Points, Point{step, int64(64 * step), 1 + level/float64(step)})
			}
			r.Curves = append(r.Curves, c)
		}
		r.Arms = append(r.Arms, a)
	}
	r.Arms[2].Failures = []Failure{{3, evil}}
	r.Settings = []Setting{{"model.mlp", []string{"1", evil, "2"}}}
	r.Environments = []Environment{{6, evil, "abc123", evil}}
	r.Notes = []string{evil}
	if err := r.Score(); err != nil {
		t.Fatal(err)
	}
	return r
}

func rendered(t *testing.T, r *Report) string {
	t.Helper()
	var page bytes.Buffer
	if err := r.HTML(&page); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

var picture = regexp.MustCompile(`(?s)<svg.*?</svg>`)

func TestReportIsOnePage(t *testing.T) {
	text := rendered(t, sample(t))
	if found := regexp.MustCompile(`(?i)https?:|\bsrc=|\bhref=|<script|<link|<iframe|@import|url\([^#]`).FindString(
		text); found != "" {
		t.Errorf("the page holds %q", found)
	}
	if strings.Contains(text, evil) || strings.Count(text, "&lt;script&gt;") < 12 {
		t.Errorf("names are not escaped in\n%s", text)
	}
	for _, want := range []string{"prefers-color-scheme: dark", "Difference in loss to gqa-2", "seed 3, failed:",
		"<code>model.mlp</code>", "6 runs; revision abc123", "Pareto"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	pictures := picture.FindAllString(text, -1)
	if len(pictures) != 5 { // loss by tokens and by FLOPs, two sets, learning rates
		t.Fatalf("%d pictures", len(pictures))
	}
	for i, p := range pictures {
		wellFormed(t, p)
		if strings.Contains(p, "NaN") || strings.Contains(p, "Inf") {
			t.Errorf("picture %d: %s", i, p)
		}
	}
	for i, n := range []int{3, 3, 0, 0, 3} {
		if got := strings.Count(pictures[i], "<polyline"); got != n {
			t.Errorf("picture %d has %d lines, not %d", i, got, n)
		}
	}
	if p := pictures[2]; strings.Count(p, "mark ahead") != 2 || strings.Count(p, "mark behind") != 1 {
		t.Errorf("the front is not gqa-2 and the evil arm: %s", p)
	}
	ids := regexp.MustCompile(`id="[^"]*"`).FindAllString(text, -1)
	if unique := slices.Compact(slices.Sorted(slices.Values(ids))); len(unique) != 5 {
		t.Errorf("pictures share names: %v", ids)
	}
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
}

func TestReportWithoutRuns(t *testing.T) {
	r := sample(t)
	r.Curves, r.Settings, r.Environments = nil, nil, nil
	text := rendered(t, r)
	for _, gone := range []string{"Training loss", "set differently", "To repeat it"} {
		if strings.Contains(text, gone) {
			t.Errorf("%q without anything below it", gone)
		}
	}
	r = sample(t)
	r.Arms[1].FLOPs = 0
	if got := len(r.lossCharts()); got != 1 {
		t.Errorf("%d loss charts where no FLOPs are known", got)
	}
	r = &Report{Comparison: Comparison{Name: "none", Baseline: "a", Sets: []string{"books"},
		Arms: []Arm{{Name: "a", Failures: []Failure{{1, "no memory"}}}}}}
	if text := rendered(t, r); strings.Contains(text, "<svg") || !strings.Contains(text, "a, seed 1, failed: no memory") {
		t.Errorf("got\n%s", text)
	}
}

func TestReportWrites(t *testing.T) {
	dir := t.TempDir()
	if err := sample(t).Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report.html", "loss.svg", "tradeoff.svg", "rates.svg", "speed.svg", "loss.png",
		"tradeoff.png", "rates.png", "speed.png"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		switch filepath.Ext(name) {
		case ".svg":
			wellFormed(t, string(text))
		case ".png":
			if p, err := png.Decode(bytes.NewReader(text)); err != nil || p.Bounds().Dx() < 450 {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if err := sample(t).Write(filepath.Join(dir, "none")); err == nil || !strings.HasPrefix(err.Error(), "eval: open ") {
		t.Errorf("got %v", err)
	}
}

func TestReadComparison(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "eval: DIR holds no comparison: there is no comparison.json",
		"{":                            "eval: DIR/comparison.json is damaged or of another version: unexpected EOF",
		`{"name":"a","results":[]}`:    `eval: DIR/comparison.json is damaged or of another version: json: unknown field "results"`,
		`{"name":"a","baseline":"gq"}`: `eval: the baseline "gq" is not among the arms (DIR/comparison.json)`,
	} {
		dir := t.TempDir()
		if text != "" {
			if err := os.WriteFile(filepath.Join(dir, "comparison.json"), []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := ReadComparison(dir); err == nil || strings.ReplaceAll(err.Error(), dir, "DIR") != want {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		want      string
	}{
		{0, 512000, "[0 200k 400k]"},
		{1.66, 3.54, "[2 2.5 3 3.5]"},
		{0, 1.4e18, "[0 500P 1E]"},
		{0.1, 0.11, "[0.1 0.102 0.104 0.106 0.108 0.11]"},
		{-1, 1, "[-1 -0.5 0 0.5 1]"},
		{-0.03, 0.09, "[0 0.05]"},
	} {
		var names []string
		for _, v := range ticks(c.low, c.high, 5) {
			names = append(names, short(v))
		}
		if got := fmt.Sprint(names); got != c.want {
			t.Errorf("%g to %g: got %s, not %s", c.low, c.high, got, c.want)
		}
	}
}

func TestLogTicks(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		want      string
	}{
		{15.5, 18.9, "[10P 100P 1E]"},
		{15, 16.4, "[1P 2P 5P 10P 20P]"},
		{15.1, 15.2, "[1.3P 1.4P 1.5P]"},
	} {
		var names []string
		for _, m := range logTicks(c.low, c.high) {
			names = append(names, m.text)
			if m.at < c.low-1e-9 || m.at > c.high+1e-9 {
				t.Errorf("%s lies at %g, outside %g to %g", m.text, m.at, c.low, c.high)
			}
		}
		if got := fmt.Sprint(names); got != c.want {
			t.Errorf("%g to %g: got %s, not %s", c.low, c.high, got, c.want)
		}
	}
}

func TestRangesOfOneValue(t *testing.T) {
	c := chart{Series: []series{{Points: []spread{{100, 7, 7, 7}}}}}
	if x, y := c.ranges(); x[1] <= 100 || y[0] >= 7 || y[1] <= 7 || math.IsNaN(y[0]) {
		t.Errorf("got %v, %v", x, y)
	}
}

func TestMarksOfOneCacheStandApart(t *testing.T) {
	var c chart
	for i := range 4 {
		c.Series = append(c.Series, series{Front: i == 2, Points: []spread{{100, 7, 7, 7}}})
	}
	c.part()
	for i, want := range []float64{3, 6, 0, 9} {
		if got := c.Series[i].Shift; math.Abs(got-want) > 1e-9 {
			t.Errorf("mark %d is shifted by %g, not %g", i, got, want)
		}
	}
}
