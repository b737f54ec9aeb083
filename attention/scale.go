package attention

import (
	"fmt"
	"math"
	"slices"
)

// A fixed softmax scale. Scores are divided by the root of a head's columns, or of scale_dim, as in Gemma 3's 27B,
// whose heads have 128 columns and whose query_pre_attn_scalar is 168.

func (c Config) checkScale(d Description) error {
	switch {
	case c.ScaleDim == 0:
		return nil
	case !slices.Contains(d.Keys, "scale_dim"):
		return fmt.Errorf("scale_dim must be 0, not %v: only mha, gqa and mqa have a softmax scale that can be set",
			c.ScaleDim)
	case !(c.ScaleDim > 0 && c.ScaleDim <= 1<<20):
		return fmt.Errorf("scale_dim must be positive, or 0 for head_dim, it is %v", c.ScaleDim)
	}
	return nil
}

// scale is what scores of keys of dim columns are multiplied by.
func (c Config) scale(dim int) float64 {
	if c.ScaleDim != 0 {
		return 1 / math.Sqrt(c.ScaleDim)
	}
	return 1 / math.Sqrt(float64(dim))
}
