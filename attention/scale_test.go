package attention_test

import (
	"math"
	"testing"

	"headroom/attention"
)

// TestScaleDim: a scale that a kind does not have, or that is no scale, is refused in one line, and that of head_dim is
// none of its own.
func TestScaleDim(t *testing.T) {
	for want, change := range map[string]func(*attention.Config){
		"attention: gta: scale_dim must be 0, not 64: only mha, gqa and mqa have a softmax scale that can be set": func(
			c *attention.Config) {
			c.Kind, c.ScaleDim = attention.GTA, 64
		},
		"attention: gqa: scale_dim must be positive, or 0 for head_dim, it is -1": func(c *attention.Config) {
			c.ScaleDim = -1
		},
		"attention: gqa: scale_dim must be positive, or 0 for head_dim, it is NaN": func(c *attention.Config) {
			c.ScaleDim = math.NaN()
		},
	} {
		c := attention.Default()
		change(&c)
		if err := c.Validate(); err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	c := attention.Default()
	plain := c.General()
	if c.ScaleDim = float64(c.HeadDim); c.General() != plain || c.Validate() != nil {
		t.Errorf("%+v is not %+v (%v)", c.General(), plain, c.Validate())
	}
	if c.ScaleDim = 168; c.General() == plain {
		t.Error("a scale of its own is lost")
	}
}
