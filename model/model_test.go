package model

import (
	"fmt"
	"testing"

	"headroom/attention"
)

// TestPaperTotals holds the parameters of all models of the paper's Tables 7 to 10 to the last digit.
func TestPaperTotals(t *testing.T) {
	sizes := map[string]struct{ layers, width, heads, dim, rope int }{
		"183M": {12, 768, 12, 64, 32}, "433M": {24, 1024, 16, 64, 32}, "876M": {24, 1536, 16, 96, 32}, "1471M": {24, 2048, 16, 128, 64},
	}
	for _, c := range []struct {
		size, kind string
		mlp, want  int
	}{
		{"183M", "mha", 2048, 183454464}, {"183M", "gqa-4", 2392, 183528192}, {"183M", "mqa", 2520, 183528192},
		{"183M", "gta-4", 2462, 183399552}, {"183M", "mla", 2128, 183652992}, {"183M", "gla-2", 2208, 183505536},
		{"433M", "mha", 2736, 433767424}, {"433M", "gqa-4", 3248, 433767424}, {"433M", "mqa", 3376, 433767424},
		{"433M", "gta-4", 3320, 433571584}, {"433M", "mla", 3062, 433547008}, {"433M", "gla-2", 3152, 433891072}, {"433M", "gla_q-2", 3280, 433891072},
		{"876M", "mha", 4096, 876553728}, {"876M", "gqa-4", 4864, 876553728}, {"876M", "mqa", 5056, 876553728}, {"876M", "gta-4", 4976, 876554880},
		{"876M", "mla", 4640, 876732672}, {"876M", "gla-2", 4768, 876732672}, {"876M", "gla_q-2", 4936, 876437760},
		{"1471M", "mha", 5464, 1471121408}, {"1471M", "gqa-4", 6486, 1470826496}, {"1471M", "gta-4", 6638, 1471221248},
		{"1471M", "mla", 6120, 1470582272}, {"1471M", "gla-2", 6292, 1470778880},
	} {
		t.Run(fmt.Sprintf("%s/%s", c.size, c.kind), func(t *testing.T) {
			s := sizes[c.size]
			kind, groups, err := attention.Parse(c.kind)
			if err != nil {
				t.Fatal(err)
			}
			a := attention.Config{Kind: kind, Groups: groups, Heads: s.heads, HeadDim: s.dim, Bias: "paper", RopeTheta: 10000}
			m := Default()
			m.Layers, m.Width, m.MLP, m.Vocab = s.layers, s.width, c.mlp, 128256
			tr, err := New(m, a)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, p := range tr.Params() {
				n += p.Size()
			}
			if n != c.want {
				t.Errorf("%d parameters, the paper has %d", n, c.want)
			}
		})
	}
}
