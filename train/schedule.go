package train

import (
	"math"

	"headroom/internal/graph"
)

var schedules = []string{"cosine", "wsd", "constant"}

// rate is the learning rate of a step, counted from 1. It rises linearly over the warm-up and then
//
//	cosine    falls along half a cosine to the floor at the last step,
//	wsd       stays, and falls linearly to the floor over the last Decay of all steps (warm-up, stable, decay),
//	constant  stays.
func (c Config) rate(step int) float64 {
	if step <= c.Warmup {
		return c.LR * float64(step) / float64(c.Warmup)
	}
	floor := c.LR * c.MinLR
	left := float64(c.Steps - step) // 0 at the last step
	switch c.Schedule {
	case "cosine":
		return floor + (c.LR-floor)*(1-math.Cos(math.Pi*left/float64(c.Steps-c.Warmup)))/2
	case "wsd":
		decay := max(1, math.Round(c.Decay*float64(c.Steps)))
		return floor + (c.LR-floor)*min(1, left/decay)
	}
	return c.LR
}

// hyper is what the optimizer needs at a step, counted from 1.
func (c Config) hyper(step int) graph.Hyper {
	return graph.Hyper{
		LR: c.rate(step), Beta1: c.Beta1, Beta2: c.Beta2, Eps: c.Eps, Decay: c.WeightDecay, Clip: c.Clip, Step: step,
	}
}
