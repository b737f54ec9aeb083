package export

import (
	"fmt"

	"headroom/model"
)

// Qwen3 is Llama whose queries and keys are normed before they rotate, each head apart.
const Qwen3 Class = "Qwen3ForCausalLM"

// qwen3Config adds what its configuration has beside Llama's.
func qwen3Config(j map[string]any, m model.Config) {
	kinds := make([]string, m.Layers)
	for i := range kinds {
		kinds[i] = fullAttention
	}
	j["model_type"], j["layer_types"] = "qwen3", kinds
	j["use_sliding_window"], j["sliding_window"], j["max_window_layers"] = false, nil, m.Layers
}

// fullAttention is the library's word for a layer whose queries see all keys before them.
const fullAttention = "full_attention"

// refuseQwen3 names what its layers may have beside full attention. A window counts where use_sliding_window says so
// only, and then in the layers that layer_types names, or from max_window_layers on.
func (f foreign) refuseQwen3() error {
	for i, kind := range f.AttentionTypes {
		if kind != fullAttention {
			return fmt.Errorf("layer_types has %s for layer %d, only %s of %s is known here", kind, i, fullAttention, Qwen3)
		}
	}
	from := 28
	if f.WindowFrom != nil {
		from = *f.WindowFrom
	}
	if f.UseWindow && len(f.AttentionTypes) == 0 && from < f.Layers {
		return fmt.Errorf("a sliding window (use_sliding_window) from layer %d on (max_window_layers) is not known here",
			from)
	}
	return nil
}
