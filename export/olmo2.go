package export

import (
	"fmt"

	"headroom/attention"
	"headroom/model"
)

// Olmo2 is the class of models whose norms stand behind attention and MLP, and norm the queries of all heads, and the
// keys, as one vector.
const Olmo2 Class = "Olmo2ForCausalLM"

// familyOf is the class of a model of key/value heads, by where its norms stand, or why there is none.
func familyOf(m model.Config, a attention.Config) (c Class, reason string) {
	switch {
	case m.Norm == model.PreNorm && !a.NormsQK():
		return Llama, ""
	case m.Norm == model.PreNorm && a.QKNorm == attention.HeadNorm:
		return Qwen3, ""
	case m.Norm == model.PostNorm && a.QKNorm == attention.AllNorm:
		return Olmo2, ""
	}
	return Own, fmt.Sprintf("no class of the library has its norms so (model.norm: %s, attention.qk_norm: %s)", m.Norm,
		a.QKNorm)
}

// olmo2Refused is why llama.cpp's olmo2 is not the same function.
func olmo2Refused(m model.Config, a attention.Config) string {
	switch {
	case a.RopeScaling.Factor != 0:
		return "llama.cpp's olmo2 does not scale rotary embeddings (attention.rope_scaling)"
	case a.Heads*a.HeadDim != m.Width:
		return fmt.Sprintf("the heads of llama.cpp's olmo2 have as many columns as the model, this one's %d of %d",
			a.Heads*a.HeadDim, m.Width)
	}
	return ""
}
