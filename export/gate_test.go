package export

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/model"
)

// TestGateIsNotLost: no export of any kind leaves an output gate out, and what cannot be exported leaves nothing.
func TestGateIsNotLost(t *testing.T) {
	for _, d := range attention.Descriptions {
		for _, gate := range []string{attention.HeadGate, attention.ElementGate} {
			checkpoint, _ := tiny(t, d.Name(2), func(_ *model.Config, a *attention.Config) { a.Gate, a.Bias = gate, "none" })
			for what, write := range map[string]func(string, Options) (Report, error){"hf": HF, "gguf": GGUF} {
				out := filepath.Join(t.TempDir(), what)
				_, err := write(checkpoint, Options{Dir: out, DType: "fp32", ShardBytes: 1 << 30})
				if err == nil || d.Exported() && !strings.Contains(err.Error(), "attention.gate: "+gate) {
					t.Errorf("%s with an output gate by %s as %s: %v", d.Kind, gate, what, err)
				}
				if _, err := os.Stat(out); !os.IsNotExist(err) {
					t.Errorf("a refused export left %s: %v", out, err)
				}
			}
		}
	}
}
