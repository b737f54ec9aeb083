package eval

import (
	"slices"
	"strings"
	"testing"
)

func TestReadCurve(t *testing.T) {
	line := func(step string) string { return `{"step":` + step + `,"loss":2.5,"lr":0.1,"tokens":8}` + "\n" }
	points, err := ReadCurve(strings.NewReader(line("1") + line("2")))
	if err != nil || len(points) != 2 || points[1] != (Point{2, 8, 2.5}) {
		t.Errorf("got %v, %v", points, err)
	}
	for text, want := range map[string]string{
		"":                               "eval: there are no steps",
		line("1") + line("3"):            "eval: line 2 is step 3: every step must have its line",
		line("1") + line("1"):            "eval: line 2 is step 1: every step must have its line",
		line("1") + `{"step":2,"lo`:      "eval: line 2 is no step: unexpected end of JSON input",
		line("1") + "\n" + line("2"):     "eval: line 2 is no step: unexpected end of JSON input",
		`{"step":1,"train_loss":2.5}`:    "eval: line 1 has no loss or tokens: another version wrote it",
		`{"step":1,"loss":1,"tokens":0}`: "eval: line 1 has no loss or tokens: another version wrote it",
	} {
		if points, err := ReadCurve(strings.NewReader(text)); err == nil || err.Error() != want || points != nil {
			t.Errorf("%q: got %v, %v", text, points, err)
		}
	}
}

func TestSpreads(t *testing.T) {
	curve := func(losses ...float64) (c Curve) {
		for i, l := range losses {
			c.Points = append(c.Points, Point{i + 1, int64(10 * (i + 1)), l})
		}
		return c
	}
	got := spreads([]Curve{curve(4, 2, 9), curve(2, 3)}) // the third step has one seed only
	if want := []spread{{10, 3, 2, 4}, {20, 2.5, 2, 3}}; !slices.Equal(got, want) {
		t.Errorf("got %v, not %v", got, want)
	}
	long := make([]float64, 1000)
	for i := range long {
		long[i] = float64(i % 2) // noise that neighbours average out
	}
	got = spreads([]Curve{curve(long...)})
	if len(got) != 60 || got[59].x != 10000 || got[30].mean < 0.4 || got[30].mean > 0.6 {
		t.Errorf("got %d groups: %v", len(got), got)
	}
	if got := spreads(nil); got != nil {
		t.Errorf("no curves: got %v", got)
	}
}

func TestFront(t *testing.T) {
	for _, c := range []struct {
		name  string
		cache []int64
		ppl   []float64 // 0: not measured
		want  []bool
	}{
		{"a trade-off", []int64{100, 200, 300}, []float64{9, 8, 7}, []bool{true, true, true}},
		{"one is worse on both", []int64{100, 200, 300}, []float64{7, 8, 6}, []bool{true, false, true}},
		{"as small a cache, better", []int64{100, 100}, []float64{8, 7}, []bool{false, true}},
		{"as good, smaller cache", []int64{200, 100}, []float64{7, 7}, []bool{false, true}},
		{"twins", []int64{100, 100}, []float64{7, 7}, []bool{true, true}},
		{"not measured", []int64{50, 100}, []float64{0, 7}, []bool{false, true}},
	} {
		var all Comparison
		for i := range c.cache {
			a := Arm{CacheBytes: c.cache[i], Perplexity: map[string]float64{}}
			if c.ppl[i] > 0 {
				a.Perplexity["books"] = c.ppl[i]
			}
			all.Arms = append(all.Arms, a)
		}
		if got := all.Front("books"); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, not %v", c.name, got, c.want)
		}
	}
}
