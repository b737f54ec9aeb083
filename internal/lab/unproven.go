package lab

import (
	"fmt"
	"log/slog"

	"headroom/attention"
	"headroom/configs"
	"headroom/data"
	"headroom/model"
)

// unproven are the parts of a model whose kernels have been compiled for CUDA and tested on a simulated device, but
// that no card has computed yet: the key that asks for each, and whether a run does. docs/status.md lists them too. An
// entry goes when its GPU tests have passed on a card.
var unproven = []struct {
	key  string
	asks func(configs.Run) bool
}{
	{"attention.kind=mfa_kr", func(c configs.Run) bool { return c.Attention.Kind == attention.MFAKR }},
	{"attention.kind=mlra", func(c configs.Run) bool { return c.Attention.Kind == attention.MLRA }},
	{"data.documents: mask", func(c configs.Run) bool { return c.Data.Documents == data.DocumentMask }},
	{"attention.gate", func(c configs.Run) bool { return c.Attention.Gated() }},
	{"attention.kind=gqla", func(c configs.Run) bool { return c.Attention.Kind == attention.GQLA }},
	{"attention.kind=tpa", func(c configs.Run) bool { return c.Attention.Kind == attention.TPA }},
	{"attention.tie_kv", func(c configs.Run) bool { return c.Attention.TieKV }},
	{"attention.qk_norm", func(c configs.Run) bool { return c.Attention.NormsQK() }},
	{"attention.window", func(c configs.Run) bool { return c.Attention.Window > 0 }},
	{"attention.scale_dim", func(c configs.Run) bool { return c.Attention.ScaleDim != 0 }},
	{"attention.rope_scaling", func(c configs.Run) bool { return c.Attention.RopeScaling.Factor != 0 }},
	{"model.activation: gelu_tanh", func(c configs.Run) bool { return c.Model.Activation == model.GELUTanh }},
	{"model.embed_scale", func(c configs.Run) bool { return c.Model.EmbedScale }},
	{"model.norm: post or both", func(c configs.Run) bool {
		return c.Model.Norm == model.PostNorm || c.Model.Norm == model.BothNorms
	}},
}

// Unproven warns of each part of a run that no card has computed yet, if the run is for CUDA.
func Unproven(c configs.Run) (warnings []string) {
	if c.Train.Device != "cuda" {
		return nil
	}
	for _, u := range unproven {
		if u.asks(c) {
			warnings = append(warnings, fmt.Sprintf("no GPU has computed %s yet (docs/status.md): hold the first results "+
				"against train.device=cpu", u.key))
		}
	}
	return warnings
}

// WarnUnproven says so of a model that decodes on a device.
func WarnUnproven(t *model.Transformer, device string) {
	c := configs.Run{Model: t.Config, Attention: t.Attention}
	c.Train.Device = device
	for _, w := range Unproven(c) {
		slog.Warn(w)
	}
}
