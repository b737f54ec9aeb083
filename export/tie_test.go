package export

import (
	"testing"

	"headroom/attention"
	"headroom/model"
)

// TestTiedValuesAreNotLost: no export leaves out that values are unrotated keys, and a refused one leaves nothing.
func TestTiedValuesAreNotLost(t *testing.T) {
	for _, kind := range []string{"mha", "gqa-2", "mqa"} {
		checkpoint, m := tiny(t, kind, func(_ *model.Config, a *attention.Config) { a.TieKV = true })
		(&specimen{Model: m}).isRefused(t, checkpoint, "attention.tie_kv is true", "attention.tie_kv is true")
	}
}
