package eval

import (
	"strings"
	"testing"
)

// TestUnmatched: a fit beyond 1%, or one that takes more than half of an MLP, is no match, and the table says so.
func TestUnmatched(t *testing.T) {
	base := Arm{Name: "gqa-4", MLP: 172, Parameters: 10000, FLOPs: 500}
	for _, c := range []struct {
		what            string
		mlp, parameters int
		flops           float64
		want            string
	}{
		{"parameters", 172, 10099, 900, ""},
		{"parameters", 172, 10105, 500, "WARNING: mla is not matched to gqa-4: its MLP has a width of 172, that of gqa-4 " +
			"172, and its parameters still differ by +1.0%."},
		{"parameters", 200, 9800, 500, "still differ by -2.0%."},
		{"parameters", 86, 10000, 500, ""},
		{"parameters", 85, 10000, 500,
			"has a width of 85, that of gqa-4 172. Its attention is too large for this model: attention.latent_dim"},
		{"parameters", 8, 10500, 500, "172, and its parameters still differ by +5.0%. Its attention is too large"},
		{"flops", 172, 12000, 504, ""},
		{"flops", 172, 10000, 506, "its training FLOPs still differ by +1.2%."},
		{"", 8, 20000, 900, ""},
	} {
		arm := Arm{Name: "mla", MLP: c.mlp, Parameters: int64(c.parameters), FLOPs: c.flops}
		table := Comparison{Name: "x", Baseline: "gqa-4", Match: c.what, Arms: []Arm{base, arm}}
		got := Unmatched(c.what, &table.Arms[1], &table.Arms[0])
		if !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%+v: %q", c, got)
		}
		if text := table.Text(); strings.Contains(text, "WARNING") != (c.want != "") || !strings.Contains(text, got) {
			t.Errorf("%+v: the table says\n%s", c, text)
		}
	}
}
