//go:build gpu

package cuda

import (
	"strings"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/internal/device"
	"headroom/model"
)

// TestWithoutKernelsIsRefused: a model that no kernel of a GPU computes is refused by its key as it is opened.
func TestWithoutKernelsIsRefused(t *testing.T) {
	for key, change := range map[string]func(*model.Config, *attention.Config){
		"model.activation is gelu_tanh": func(c *model.Config, _ *attention.Config) { c.Activation = model.GELUTanh },
		"model.embed_scale is true":     func(c *model.Config, _ *attention.Config) { c.EmbedScale = true },
	} {
		m := decodetest.Tiny(t, "gqa-2", change)
		d, err := simulate(device.BF16).Open(m, decode.Limits{Pages: 2})
		if err == nil {
			d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %q", err, key)
		}
	}
}
