package main

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"headroom/eval"
	"headroom/internal/lab"
)

// climbed puts down a comparison over sizes as machines that went away leave it: the plan and the results, without
// weights. Losses come from size and arm (0 is the baseline).
func climbed(t *testing.T, dir, sizes string, loss func(size string, arm, seed int) float64) {
	t.Helper()
	file := filepath.Join(dir, "climb.yaml")
	put(t, `name: climb
base:
  model: {layers: 1, width: 16, mlp: 24, vocab: 257, context: 16}
  attention: {heads: 2, head_dim: 8, groups: 2}
  data: {tokenizer: bytes, train: none, val: {fox: none}}
  train: {batch: 2, warmup: 2}
baseline: gqa-2
seeds: [1, 2, 3]
match: parameters
sizes: {`+sizes+`}
arms: {gqa-2: {}, gta-2: {attention: {kind: gta}}}
`, file)
	c, err := lab.Open(t.Context(), lab.Order{Name: file, Out: filepath.Join(dir, "climb")})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	put(t, string(plan), c.Dir, "plan.yaml")
	for i, arm := range c.Arms {
		for _, seed := range c.Seeds {
			config := arm.Config
			config.Train.Seed, config.Data.Seed = seed, seed
			run := filepath.Join(c.Dir, arm.Size, arm.Name, fmt.Sprintf("seed-%d", seed))
			nats := loss(arm.Size, i%2, int(seed))
			put(t, config.YAML(), run, "config.yaml")
			put(t, asJSON(t, lab.Result{Hash: config.Hash(), TokensPerSecond: 100,
				Sets: []eval.Result{{Set: "fox", NLL: nats, Perplexity: math.Exp(nats)}}}), run, "result.json")
		}
	}
}

// collected is the table of what lies in a directory, and the comparison in its JSON.
func collected(t *testing.T, dir string) (table string, c eval.Comparison) {
	t.Helper()
	code, table, logs := headroom("compare", "--collect", dir)
	if code != 0 {
		t.Fatalf("code %d: %s", code, logs)
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Join(dir, "comparison.json"))), &c); err != nil {
		t.Fatal(err)
	}
	return table, c
}

// widths are sizes of models, with so many tokens each.
func widths(tokens map[string]int64) string {
	var all []string
	for _, w := range []int{16, 32, 64, 128} {
		all = append(all, fmt.Sprintf("w%d: {model: {width: %d, mlp: %d}, train: {tokens: %d}}", w, w, 2*w,
			tokens[fmt.Sprintf("w%d", w)]))
	}
	return strings.Join(all, ", ")
}

// TestSizesBecomeALaw goes from results on disk to the table, the JSON and the page. Four sizes with 20 tokens a
// parameter have losses of one law for both arms, but that gta-2 needs half the FLOPs.
func TestSizesBecomeALaw(t *testing.T) {
	dir := t.TempDir()
	tokens, flops := map[string]int64{"w16": 96_000, "w32": 96_000, "w64": 96_000, "w128": 96_000}, map[string]float64{}
	climbed(t, dir, widths(tokens), func(size string, _, _ int) float64 {
		return 3 - 0.001*float64(tokens[size]/1000) - map[string]float64{"w16": 0, "w32": 0.3, "w64": 0.5, "w128": 0.6}[size]
	})
	dir = filepath.Join(dir, "climb")
	table, c := collected(t, dir)
	if want := "- WARNING: fox: tokens per parameter are not held: gqa-2 has "; !strings.Contains(table, want) {
		t.Errorf("no %q in\n%s", want, table)
	}
	for _, a := range c.Arms {
		flops[a.ID()] = a.FLOPs
		if a.Tokens != 96_000 {
			t.Errorf("%s is trained on %d tokens", a.ID(), a.Tokens)
		}
		if a.Name == c.Baseline {
			tokens[a.Size] = (20*a.Parameters + 31) / 32 * 32
		}
	}

	dir = t.TempDir()
	climbed(t, dir, widths(tokens), func(size string, arm, seed int) float64 {
		name := []string{"gqa-2", "gta-2"}[arm]
		return 2 + 3*math.Pow(float64(arm+1)*flops[size+"/"+name]*float64(tokens[size])/1e9, -0.2) +
			0.002*float64((seed*(arm+2)+len(size))%3-1)
	})
	dir = filepath.Join(dir, "climb")
	table, c = collected(t, dir)
	l := c.Laws[0]
	if len(c.Laws) != 1 || l.None != "" || fmt.Sprint(l.Sizes, l.Seeds) != "[w16 w32 w64 w128] [3 3 3 3]" ||
		len(l.Notes) > 0 || l.Arms[1].Name != "gta-2" {
		t.Fatalf("got %+v", c.Laws)
	}
	for _, v := range []struct {
		what              string
		got, want, nearly float64
	}{
		{"E", l.E, 2, 0.1}, {"exponent", l.Arms[0].Exponent, 0.2, 0.02}, {"speed-up", l.Arms[1].Speedup.Times, 2, 0.03},
		{"C0", l.C0, flops["w128/gqa-2"] * float64(tokens["w128"]), 1},
	} {
		if math.Abs(v.got-v.want) > v.nearly {
			t.Errorf("%s is %g, not %g", v.what, v.got, v.want)
		}
	}
	s, h := l.Arms[1].Speedup, l.Arms[1].Held
	if !s.Resolved() || s.Interval[0] > 2 || s.Interval[1] < 2 || h.Size != "w128" || !*h.Inside ||
		l.Arms[1].Next.FLOPs < 2*h.FLOPs {
		t.Errorf("got %+v", l.Arms[1])
	}
	for _, text := range []string{table, read(t, filepath.Join(dir, "comparison.md"))} {
		words := strings.Join(strings.Fields(strings.ReplaceAll(text, "|", "")), " ")
		for _, want := range []string{
			"arm set E A exponent a speed-up over gqa-2 found", fmt.Sprintf("%.4f %.3f (%.3f to %.3f) better",
				l.Arms[1].Exponent, s.Times, s.Interval[0], s.Interval[1]),
			"gta-2 fox w128, from the others", "gta-2 fox beyond w128", fmt.Sprintf("%.4f yes", h.Measured),
			"The law on fox is fitted to w16 (3 seeds), w32 (3 seeds), w64 (3 seeds), w128 (3 seeds).",
		} {
			if !strings.Contains(words, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
	}
	lawPage(t, dir)
	lawJSON(t, dir, c.Laws)
}

// lawPage says that the page has two charts with a line for each arm, a filled dot for each size and a hollow one
// beyond.
func lawPage(t *testing.T, dir string) {
	t.Helper()
	page := read(t, filepath.Join(dir, "report.html"))
	charts := regexp.MustCompile(`(?s)<svg[^>]*><title>law on fox.*?</svg>`).FindAllString(page, -1)
	if len(charts) != 2 || !strings.Contains(page, "Law over the sizes: loss = E") ||
		!strings.Contains(page, "Losses that the law predicts") {
		t.Fatalf("%d charts in\n%s", len(charts), page)
	}
	for _, chart := range charts {
		lines, filled, hollow := strings.Count(chart, "<polyline"), strings.Count(chart, "mark ahead"),
			strings.Count(chart, "mark behind")
		if lines != 2 || filled != 8 || hollow != 2 || strings.Contains(chart, "NaN") {
			t.Errorf("%d lines, %d filled dots and %d hollow ones in %s", lines, filled, hollow, chart)
		}
	}
	for _, name := range []string{"law.svg", "law.png"} {
		read(t, filepath.Join(dir, name))
	}
}

// lawJSON says that what was written is read and scored to the same laws, as the JSON on standard output is. A table of
// an earlier revision has neither laws nor training tokens: it is read, and says what to do.
func lawJSON(t *testing.T, dir string, laws []eval.Law) {
	t.Helper()
	again, err := eval.ReadComparison(dir)
	if err != nil || asJSON(t, again.Laws) != asJSON(t, laws) {
		t.Errorf("%v: %s is not %s", err, asJSON(t, again.Laws), asJSON(t, laws))
	}
	code, out, _ := headroom("compare", "--collect", dir, "--json")
	var printed eval.Comparison
	if err := json.Unmarshal([]byte(out), &printed); code != 0 || err != nil ||
		asJSON(t, printed.Laws) != asJSON(t, laws) {
		t.Errorf("code %d, %v: %s", code, err, out)
	}
	printed.Laws = nil
	for i := range printed.Arms {
		printed.Arms[i].Tokens = 0
	}
	old := t.TempDir()
	put(t, asJSON(t, printed), old, "comparison.json")
	if code, _, logs := headroom("report", old); code != 0 {
		t.Errorf("code %d: %s", code, logs)
	}
	if page := read(t, filepath.Join(old, "report.html")); !strings.Contains(page,
		"No law on fox: the training FLOPs of w16/gqa-2 are not known") || strings.Contains(page, "<title>law on fox") {
		t.Errorf("got\n%s", page)
	}
}

// TestALargerSizeIsHeldAgainstThePrediction adds a size to a comparison that is finished, with the same command: what
// was there is not trained again, and the size is held against the law that the others had before.
func TestALargerSizeIsHeldAgainstThePrediction(t *testing.T) {
	dir := t.TempDir()
	file, out := filepath.Join(dir, "climb.yaml"), filepath.Join(dir, "climb")
	sizes := []string{"w16: {}", "w32: {model: {width: 32, mlp: 64}}", "w64: {model: {width: 64, mlp: 128}}",
		"w128: {model: {width: 128, mlp: 256}}"}
	loss := func(size string, arm, seed int) float64 {
		at := map[string]float64{"w16": 0, "w32": 1, "w64": 2, "w128": 3}[size]
		return 2 + 3*math.Exp(-0.3*at) + 0.02*float64(arm) + 0.01*float64((seed*(arm+2)+int(at))%3-1)
	}
	compare := func() (c eval.Comparison) {
		t.Helper()
		if logs, err := program(t, "compare", file, "--out", out).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, logs)
		}
		if err := json.Unmarshal([]byte(read(t, filepath.Join(out, "comparison.json"))), &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	climbed(t, dir, strings.Join(sizes[:3], ", "), loss)
	before := compare().Laws[0]
	climbed(t, dir, strings.Join(sizes, ", "), loss)
	after := compare().Laws[0]
	for i, a := range after.Arms {
		h, b := a.Held, before.Arms[i]
		want := before.E + b.A*math.Pow(h.FLOPs/before.C0, -b.Exponent)
		if h.Size != "w128" || math.Abs(h.Loss-want) > 1e-9 {
			t.Errorf("%s: held against %.6f, not %.6f: %+v", a.Name, h.Loss, want, h)
		}
		mean := (loss("w128", i, 1) + loss("w128", i, 2) + loss("w128", i, 3)) / 3
		if math.Abs(h.Measured-mean) > 1e-9 || h.Inside == nil {
			t.Errorf("%s: measured is not %g: %+v", a.Name, mean, h)
		}
		if b.Held != nil || b.Next == nil {
			t.Errorf("%s: before, %+v", a.Name, b)
		}
	}
}

// TestComparisonsOfTheDocs: the file that compare.md shows is one, and the example of a law holds tokens per parameter.
func TestComparisonsOfTheDocs(t *testing.T) {
	_, text, _ := strings.Cut(read(t, "../../docs/compare.md"), "```yaml\n")
	text, _, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("compare.md shows no file")
	}
	file := filepath.Join(t.TempDir(), "shown.yaml")
	put(t, text, file)
	for _, name := range []string{file, "../../docs/examples/sizes.yaml"} {
		c, err := lab.Open(t.Context(), lab.Order{Name: name, Dry: true, Out: t.TempDir()})
		if err != nil {
			t.Error(err)
			continue
		}
		concerns, err := c.Concerns()
		if err != nil || strings.Contains(strings.Join(concerns, " "), "tokens per parameter") {
			t.Errorf("%s: %q, %v", name, concerns, err)
		}
	}
}
