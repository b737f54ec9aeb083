package lab

import (
	"fmt"
	"log/slog"

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
	{"data.documents: mask", func(c configs.Run) bool { return c.Data.Documents == data.DocumentMask }},
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
