package model

import (
	"testing"

	"headroom/attention"
)

// TestActivationIsKnown refuses an activation that there is not, and reads a file that says none as silu.
func TestActivationIsKnown(t *testing.T) {
	c := Default()
	c.Activation = "relu"
	const want = "model: activation must be silu or gelu_tanh, it is relu"
	if _, err := New(c, attention.Default()); err == nil || err.Error() != want {
		t.Error(err)
	}
	c.Activation = ""
	if m, err := New(c, attention.Default()); err != nil || m.Config.Activation != SiLU || m.Config.EmbedScale {
		t.Errorf("%+v, %v", m, err)
	}
}
