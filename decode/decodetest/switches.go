package decodetest

import (
	"math/rand/v2"

	"headroom/attention"
	"headroom/model"
)

// switches draw the keys of attention.Config that change what a kind computes, most of the time as they mostly are.
var switches = []func(r *rand.Rand, a *attention.Config){
	func(r *rand.Rand, a *attention.Config) {
		a.QKNorm = []string{attention.NoNorm, attention.NoNorm, attention.HeadNorm, attention.AllNorm}[r.IntN(4)]
	},
	func(r *rand.Rand, a *attention.Config) {
		if r.IntN(3) == 0 {
			a.RopeScaling = attention.RopeScaling{Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalContext: 40}
		}
	},
	func(r *rand.Rand, a *attention.Config) {
		if r.IntN(3) == 0 {
			a.Gate, a.GateWidth = []string{attention.HeadGate, attention.ElementGate}[r.IntN(2)], []int{0, 3, 8}[r.IntN(3)]
		}
	},
	func(r *rand.Rand, a *attention.Config) { a.TieKV = r.IntN(4) == 0 },
	func(r *rand.Rand, a *attention.Config) { a.Bias = []string{"paper", "none"}[r.IntN(2)] },
	func(r *rand.Rand, a *attention.Config) { a.RopeDim = []int{0, 2, 4}[r.IntN(3)] },
	func(r *rand.Rand, a *attention.Config) {
		a.QueryRank, a.KVRank = []int{0, 1, 4}[r.IntN(3)], []int{0, 1, 3}[r.IntN(3)]
	},
	func(r *rand.Rand, a *attention.Config) {
		a.Window = []int{0, 0, 0, 0, 2, 3, 30}[r.IntN(7)]
		a.Pattern = []attention.Pattern{"", "", "window,full", "full,window", "window"}[r.IntN(5)]
		a.WindowRopeTheta = []float64{0, 300}[r.IntN(2)]
	},
	func(r *rand.Rand, a *attention.Config) { a.ScaleDim = []float64{0, 0, 5.5}[r.IntN(3)] },
}

// modelSwitches draw the keys of model.Config that change what a model computes, most of the time as they mostly are.
var modelSwitches = []func(r *rand.Rand, c *model.Config){
	func(r *rand.Rand, c *model.Config) {
		c.Norm = []string{model.PreNorm, model.PreNorm, model.PostNorm, model.BothNorms}[r.IntN(4)]
	},
	func(r *rand.Rand, c *model.Config) {
		c.Activation = []string{model.SiLU, model.SiLU, model.GELUTanh}[r.IntN(3)]
	},
	func(r *rand.Rand, c *model.Config) { c.EmbedScale = r.IntN(4) == 0 },
}

// Switched draws a configuration's switches at random, without those that its kind refuses.
func Switched(r *rand.Rand) func(*model.Config, *attention.Config) {
	return func(c *model.Config, a *attention.Config) {
		for _, draw := range modelSwitches {
			draw(r, c)
		}
		for _, draw := range switches {
			was := *a
			if draw(r, a); a.Validate() != nil {
				*a = was
			}
		}
	}
}
