package attention_test

import (
	"strings"
	"testing"

	"headroom/attention"
)

// TestQKNormIsRefused: kinds whose keys cannot be normed say why, and so does a norm that devices would have to sum.
func TestQKNormIsRefused(t *testing.T) {
	for _, d := range attention.Descriptions {
		for _, norm := range []string{attention.HeadNorm, attention.AllNorm} {
			c := attention.Default()
			c.Kind, c.Groups, c.QKNorm = d.Kind, 2, norm
			err := c.Validate()
			switch d.Cache {
			case attention.KeyValue:
				if err != nil {
					t.Errorf("%s with qk_norm %s: %v", d.Kind, norm, err)
				}
				if _, err := c.Shard(1); err != nil {
					t.Errorf("%s with qk_norm %s on one device: %v", d.Kind, norm, err)
				}
				if _, err := c.Shard(2); (err != nil) != (norm == attention.AllNorm) ||
					err != nil && !strings.Contains(err.Error(), "qk_norm all cannot be divided") {
					t.Errorf("%s with qk_norm %s on two devices: %v", d.Kind, norm, err)
				}
			default:
				why := map[attention.CacheForm]string{attention.Tied: "its value too", attention.Latent: "absorb"}[d.Cache]
				if err == nil || !strings.Contains(err.Error(), "qk_norm must be none, not "+norm) ||
					!strings.Contains(err.Error(), why) {
					t.Errorf("%s with qk_norm %s: %v", d.Kind, norm, err)
				}
			}
		}
	}
	c := attention.Default()
	for norm, want := range map[string]string{"": "", "none": "", "heads": `qk_norm is none, head or all, not "heads"`} {
		c.QKNorm = norm
		err := c.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("qk_norm %q: %v", norm, err)
		}
	}
	c.QKNorm = ""
	if c.General() != attention.Default().General() {
		t.Error("a configuration that does not say qk_norm is not the one without it")
	}
}
