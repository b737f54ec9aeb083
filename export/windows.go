package export

import (
	"fmt"
	"slices"
	"strings"

	"headroom/attention"
)

// The library's words for layers whose queries see all keys before them, or the last sliding_window of them.
const (
	fullAttention    = "full_attention"
	slidingAttention = "sliding_attention"
)

// layerTypes are what the layers of a model are in the library's words.
func layerTypes(layers int, a attention.Config) (kinds []string) {
	for i := range layers {
		kind := fullAttention
		if a.Layer(i).Window > 0 {
			kind = slidingAttention
		}
		kinds = append(kinds, kind)
	}
	return kinds
}

// windows is the way back: the window of layers of such kinds, 0 where none has one, and their pattern, empty where all
// have it.
func windows(kinds []string, window int) (int, attention.Pattern) {
	var words []string
	for _, kind := range kinds {
		word := attention.FullLayer
		if kind == slidingAttention {
			word = attention.WindowLayer
		}
		words = append(words, word)
	}
	switch {
	case !slices.Contains(words, attention.WindowLayer):
		return 0, ""
	case !slices.Contains(words, attention.FullLayer):
		return window, ""
	}
	period := 1
	for !slices.Equal(words[period:], words[:len(words)-period]) {
		period++
	}
	return window, attention.PatternOf(strings.Join(words[:period], ","))
}

// refuseLayers names what layer_types has beside full layers and windows.
func (f foreign) refuseLayers(kinds []string) error {
	for i, kind := range kinds {
		if kind != fullAttention && kind != slidingAttention {
			return fmt.Errorf("layer_types has %s for layer %d, only %s and %s are known here", kind, i, fullAttention,
				slidingAttention)
		}
	}
	if len(kinds) != f.Layers {
		return fmt.Errorf("layer_types has %d layers, num_hidden_layers is %d", len(kinds), f.Layers)
	}
	return nil
}
