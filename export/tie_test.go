package export

import (
	"testing"

	"headroom/attention"
	"headroom/model"
)

// TestTiedValuesAreNotLost: that values are unrotated keys goes out and comes back, and no GGUF file leaves it out.
func TestTiedValuesAreNotLost(t *testing.T) {
	for _, kind := range []string{"mha", "gqa-2", "mqa"} {
		checkpoint, m := tiny(t, kind, func(_ *model.Config, a *attention.Config) { a.TieKV = true })
		(&specimen{Model: m}).goesOutAsOwn(t, checkpoint, "attention.tie_kv: true")
	}
}
