package export

import (
	"fmt"
	"slices"

	"headroom/attention"
	"headroom/model"
)

// Qwen3 is Llama whose queries and keys are normed before they rotate, each head apart. Some of its layers may have a
// window.
const Qwen3 Class = "Qwen3ForCausalLM"

// qwen3Config adds what its configuration has beside Llama's.
func qwen3Config(j map[string]any, m model.Config, a attention.Config) {
	j["model_type"], j["layer_types"], j["max_window_layers"] = "qwen3", layerTypes(m.Layers, a), m.Layers
	if j["use_sliding_window"], j["sliding_window"] = a.Window > 0, nil; a.Window > 0 {
		j["sliding_window"] = a.Window
	}
}

// What Qwen3Config takes where config.json says nothing.
const qwen3Window, qwen3WindowFrom = 4096, 28

// qwen3Types are the kinds of its layers: those that it names, or full ones, and where use_sliding_window says so
// windows from max_window_layers on.
func (f foreign) qwen3Types() (kinds []string) {
	if len(f.AttentionTypes) > 0 {
		return f.AttentionTypes
	}
	from := qwen3WindowFrom
	if f.WindowFrom != nil {
		from = *f.WindowFrom
	}
	for i := range f.Layers {
		kind := fullAttention
		if f.UseWindow && i >= from {
			kind = slidingAttention
		}
		kinds = append(kinds, kind)
	}
	return kinds
}

func (f foreign) qwen3Window() int {
	if f.Window.keys == nil {
		return qwen3Window
	}
	return *f.Window.keys
}

// refuseQwen3 names what is wrong with its layers.
func (f foreign) refuseQwen3() error {
	kinds := f.qwen3Types()
	if err := f.refuseLayers(kinds); err != nil {
		return err
	}
	switch i := slices.Index(kinds, slidingAttention); {
	case i >= 0 && !f.UseWindow:
		return fmt.Errorf("layer_types has %s for layer %d, and use_sliding_window is false", slidingAttention, i)
	case i >= 0 && (f.Window.said && f.Window.keys == nil || f.qwen3Window() < 1):
		return fmt.Errorf("sliding_window must be positive where layers are %s", slidingAttention)
	}
	return nil
}
