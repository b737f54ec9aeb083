package export

import (
	"encoding/json"
	"fmt"

	"headroom/attention"
	"headroom/model"
)

// Mistral is Llama with one window of keys in all layers, which sliding_window counts as attention.window does. A
// Mistral without a window is read as Llama, and goes out as one.
const Mistral Class = "MistralForCausalLM"

// mistralWindow is the window where config.json does not say any.
const mistralWindow = 4096

// A slidingWindow is the key sliding_window, of which null is something else than silence.
type slidingWindow struct {
	said bool
	keys *int
}

// UnmarshalJSON is called for null too.
func (w *slidingWindow) UnmarshalJSON(text []byte) error {
	w.said, w.keys = true, nil
	if err := json.Unmarshal(text, &w.keys); err != nil {
		return fmt.Errorf("sliding_window is %s, not a whole number", text)
	}
	return nil
}

// mistral is the window of a Mistral, 0 where it has none.
func (w slidingWindow) mistral() int {
	switch {
	case !w.said:
		return mistralWindow
	case w.keys == nil:
		return 0
	}
	return *w.keys
}

// refuseMistral names what its layers may have beside one window.
func (f foreign) refuseMistral() error {
	switch w := f.Window.mistral(); {
	case w < 1:
		return fmt.Errorf("sliding_window must be positive or null, it is %d", w)
	case len(f.AttentionTypes) > 0:
		return fmt.Errorf("layer_types are not known here of %s", Mistral)
	}
	return nil
}

// windowedClass is the class of a model with a window, or why there is none.
func windowedClass(m model.Config, a attention.Config) (c Class, reason string) {
	switch class, _ := familyOf(m, a); {
	case class == Qwen3 && a.RopeDim == a.HeadDim && a.General().WindowRopeTheta == 0:
		return Qwen3, ""
	case class != Llama || a.RopeDim != a.HeadDim:
		return Own, fmt.Sprintf("attention.window is %d, and of the classes that this program writes only %s, %s and %s "+
			"have windows, which rotate whole heads: this model has its norms or its rotation otherwise", a.Window, Mistral,
			Qwen3, Gemma3)
	case a.General().Pattern != "":
		return Own, fmt.Sprintf("attention.window is %d in some layers alone (attention.pattern), and in %s in all", a.Window,
			Mistral)
	case a.RopeScaling != attention.RopeScaling{}:
		return Own, fmt.Sprintf("attention.window is %d, and %s is not written with a scaled rotary embedding "+
			"(attention.rope_scaling)", a.Window, Mistral)
	}
	return Mistral, ""
}
