package lab

import (
	"strings"
	"testing"

	"headroom/attention"
	"headroom/configs"
)

// TestUnproven: what no card has computed is warned of on CUDA, by its key, and on the CPU it is not.
func TestUnproven(t *testing.T) {
	was := unproven
	defer func() { unproven = was }()
	unproven = append(unproven[:0:0], was...)
	unproven = append(unproven, struct {
		key  string
		asks func(configs.Run) bool
	}{"attention.kind=mfa", func(c configs.Run) bool { return c.Attention.Kind == attention.MFA }})
	c := configs.Default()
	for _, device := range []string{"cpu", "cuda"} {
		for _, kind := range []attention.Kind{attention.GQA, attention.MFA} {
			c.Train.Device, c.Attention.Kind = device, kind
			said := strings.Join(Unproven(c), "\n")
			if warned := strings.Contains(said, "attention.kind=mfa"); warned != (device == "cuda" && kind == attention.MFA) {
				t.Errorf("%s on %s: %q", kind, device, said)
			}
		}
	}
}
