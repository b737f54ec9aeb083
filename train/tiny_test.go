package train

import "headroom/model"

// tinyModel is a model of a few thousand parameters.
func tinyModel() model.Config {
	return model.Config{Vocab: vocab, Width: 16, Heads: 2, Layers: 1, MLP: 24, Context: 16}
}
