package train

import (
	"headroom/attention"
	"headroom/model"
)

// tinyConfigs is a model of a few thousand parameters, with a latent layer so that biases and inner norms are trained.
func tinyConfigs() (model.Config, attention.Config) {
	return model.Config{Layers: 2, Width: 16, MLP: 24, Vocab: vocab, Context: 16, NormEps: 1e-5, Tie: true, InitStd: 0.1},
		attention.Config{Kind: attention.GLA, Groups: 2, Heads: 4, HeadDim: 4, RopeDim: 4, Bias: "paper", RopeTheta: 10000}
}
