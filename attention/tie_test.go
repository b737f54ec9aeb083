package attention_test

import (
	"strings"
	"testing"

	"headroom/attention"
)

// TestTieKV: kinds that have keys and values apart tie them or say why not, and the others say that they are one
// already. Tied, a token's cache is a half, which doubles the intensity.
func TestTieKV(t *testing.T) {
	for _, d := range attention.Descriptions {
		c := attention.Default()
		c.Kind, c.Groups, c.HeadDim, c.TieKV = d.Kind, 2, 32, true
		why := map[attention.Kind]string{attention.MHA: "", attention.GQA: "", attention.MQA: "",
			attention.MFA: "mfa_kr is the mfa", attention.TPA: "made apart"}
		want, ok := why[d.Kind]
		if !ok {
			want = "made of one state already"
		}
		err := c.Validate()
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), "tie_kv must be false: ") || !strings.Contains(err.Error(), want) {
				t.Errorf("%s with tie_kv: %v", d.Kind, err)
			}
			if c.General().TieKV {
				t.Errorf("%s, which does not read tie_kv, remembers it", d.Kind)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s with tie_kv: %v", d.Kind, err)
			continue
		}
		plain := c
		plain.TieKV = false
		if tied, whole := elements(t, c), elements(t, plain); 2*tied != whole {
			t.Errorf("%s with tie_kv: %d elements a token, %d without", d.Kind, tied, whole)
		}
		if c.Form() != attention.Unrotated || plain.Form() != attention.KeyValue || c.Intensity(1) != 2*plain.Intensity(1) {
			t.Errorf("%s with tie_kv: %s of intensity %v, without %s of %v", d.Kind, c.Form(), c.Intensity(1), plain.Form(),
				plain.Intensity(1))
		}
		if c.General() == plain.General() {
			t.Errorf("%s with tie_kv is said to be the one without", d.Kind)
		}
	}
}

func elements(t *testing.T, c attention.Config) int {
	t.Helper()
	l, err := attention.New(c, attention.Place{Name: "a", Width: C, NormEps: 1e-5, Std: 1, OutStd: 1})
	must(t, err)
	return l.CacheLayout().Elements()
}

// TestTiedValueIsTheKey repeats one token: whatever the weights, the output is then x·Wk at every position. A value
// that was rotated would not pass.
func TestTiedValueIsTheKey(t *testing.T) {
	const H, D, R = 4, 8, 4
	a, _ := paper(t, "gqa-4", H, D)
	a.RopeDim, a.TieKV = R, true
	w := random(t, a, 5)
	tokens := []int32{5, 5, 5, 5}
	out := attend(t, a, w, tokens)
	for i, token := range tokens {
		for j, want := range w["Wk"][int(token)*H*D:][:H*D] {
			if got := out[i*H*D+j]; !(abs(got-want) <= 1e-6*abs(want)+1e-7) {
				t.Errorf("position %d, column %d: value %v, the key is %v", i, j, got, want)
			}
		}
	}
}

func abs(x float32) float32 { return max(x, -x) }
