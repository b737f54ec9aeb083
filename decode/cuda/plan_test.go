//go:build gpu

package cuda

import (
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/internal/device"
	"headroom/model"
)

// TestPlan lays out every kind, on no GPU: shapes must fit each other, and the memory of a pass be that of its tokens.
func TestPlan(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		for _, typ := range []device.Type{device.F32, device.BF16} {
			for _, dim := range []int{8, 64} {
				m := decodetest.Tiny(t, kind, func(c *model.Config, a *attention.Config) {
					if a.HeadDim, a.RopeDim = dim, 0; a.Kind == attention.MLRA && dim == 64 {
						a.LatentDim = 128 // which it has at heads of 128
					}
				})
				b := simulate(typ)
				l := decode.Limits{Pages: 10, Rows: 4, Tokens: 104, Scores: 4, Context: 256}
				d, err := b.plan(m, l)
				if err != nil {
					t.Fatal(err)
				}
				l.Tokens = 1000
				more, err := b.plan(m, l)
				if err != nil {
					t.Fatal(err)
				}
				if d.passBytes() <= 0 || more.passBytes() <= d.passBytes() {
					t.Errorf("%s %v: %d bytes for 104 tokens, %d for 1000", kind, typ, d.passBytes(), more.passBytes())
				}
				described, _ := m.Attention.Kind.Describe()
				fast := dim == 64 && typ == device.BF16 && described.Cache != attention.Unrotated &&
					described.Cache != attention.Factored
				if (d.takes[0]&byDecoding != 0) != fast {
					t.Errorf("%s %v of %d columns: the kernels of decoding: %v", kind, typ, dim, d.takes[0]&byDecoding != 0)
				}
			}
		}
	}
}

// TestGroups names the products that become one.
func TestGroups(t *testing.T) {
	for kind, want := range map[string][]int{"gqa-2": {3, 1, 2, 1}, "mfa": {3, 1, 1, 2, 1}, "gta-2": {3, 1, 2, 1},
		"mla": {3, 1, 1, 2, 1}, "gla_q-2": {3, 1, 1, 2, 1}} {
		m := decodetest.Tiny(t, kind, func(c *model.Config, _ *attention.Config) { c.Layers = 1 })
		var got []int
		for _, g := range groupsOf(m.Transformer).all {
			got = append(got, len(g))
		}
		sum := map[int]int{}
		for _, n := range got {
			sum[n]++
		}
		for _, n := range want {
			sum[n]--
		}
		for n, left := range sum {
			if left != 0 {
				t.Errorf("%s: groups of %v, want %v (%d)", kind, got, want, n)
			}
		}
	}
}
