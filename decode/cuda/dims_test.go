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

// TestCUDAAnyDims decodes models of dims that the kernels of steps cannot read 16 bytes at a time, or whose rotations
// they do not have: other kernels take their place, in bf16 too.
func TestCUDAAnyDims(t *testing.T) {
	for name, c := range map[string]struct {
		kind   string
		change func(c *model.Config, a *attention.Config)
	}{
		"40 rotated columns":          {"gqa-2", func(_ *model.Config, a *attention.Config) { a.RopeDim = 40 }},
		"8 rotated columns":           {"mqa", func(_ *model.Config, a *attention.Config) { a.RopeDim = 8 }},
		"a query latent of 100":       {"gla-2", func(_ *model.Config, a *attention.Config) { a.QueryLatentDim = 100 }},
		"parts of a query latent, 36": {"gla_q-2", func(_ *model.Config, a *attention.Config) { a.QueryLatentDim = 72 }},
		"heads of 36": {"mla", func(_ *model.Config, a *attention.Config) {
			a.HeadDim, a.LatentDim = 36, 128
		}},
		"a rope key of 4":            {"gla-2", func(_ *model.Config, a *attention.Config) { a.RopeDim = 4 }},
		"latents of 100":             {"mla", func(_ *model.Config, a *attention.Config) { a.LatentDim = 100 }},
		"latents of 128 in branches": {"mlra-4", func(_ *model.Config, a *attention.Config) { a.LatentDim = 128 }},
		"latents of 128 in pairs":    {"mlra-2", func(_ *model.Config, a *attention.Config) { a.LatentDim = 128 }},
		"a state of 20":              {"gta-2", func(_ *model.Config, a *attention.Config) { a.HeadDim, a.RopeDim = 20, 6 }},
		"a width of 36":              {"gqa-2", func(c *model.Config, _ *attention.Config) { c.Width = 36 }},
		"an MLP of 50":               {"gta-2", func(c *model.Config, _ *attention.Config) { c.MLP = 50 }},
		"values that are keys":       {"gqa-2", func(_ *model.Config, a *attention.Config) { a.TieKV, a.RopeDim = true, 32 }},
	} {
		t.Run(name, func(t *testing.T) {
			m := decodetest.Tiny(t, c.kind, wide, c.change)
			for _, typ := range []device.Type{device.F32, device.BF16} {
				d, texts := openDevice(t, m, simulate(typ), decode.Options{Pages: 20, Rows: 4}), decodetest.Texts(m)
				for i, y := range decodetest.Split(t, d, m, 1, texts) {
					decodetest.Near(t, c.kind, y, decodetest.Forward(t, m, texts[i]))
				}
			}
		})
	}
}
