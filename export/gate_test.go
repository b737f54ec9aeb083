package export

import (
	"testing"

	"headroom/attention"
	"headroom/model"
)

// TestGateIsNotLost: a gate of every kind goes out and comes back, and no GGUF file leaves it out.
func TestGateIsNotLost(t *testing.T) {
	for _, d := range attention.Descriptions {
		for _, gate := range []string{attention.HeadGate, attention.ElementGate} {
			checkpoint, m := tiny(t, d.Name(2), func(_ *model.Config, a *attention.Config) { a.Gate, a.Bias = gate, "none" })
			(&specimen{Model: m}).goesOutAsOwn(t, checkpoint, "attention.gate: "+gate)
		}
	}
}
