package eval

import "headroom/model"

func tinyModel() model.Config {
	return model.Config{Vocab: 11, Width: 16, Heads: 2, Layers: 1, MLP: 24, Context: 6}
}
