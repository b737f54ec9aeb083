package eval

import (
	"headroom/attention"
	"headroom/model"
)

func tinyConfigs() (model.Config, attention.Config) {
	return model.Config{Layers: 1, Width: 16, MLP: 24, Vocab: 11, Context: 6, NormEps: 1e-5, Tie: true, InitStd: 0.3},
		attention.Config{Kind: attention.GTA, Groups: 2, Heads: 4, HeadDim: 4, Bias: "paper", RopeTheta: 10000}
}
