package model

import (
	"math"

	"headroom/attention"
	"headroom/internal/graph"
)

// How parameters start. The paper does not say; these are the usual choices for a decoder of this kind:
//
//	embedding, head      normal, InitStd          0.02 by default; tied, it also keeps first logits small
//	weights              normal, InitStd          of any width: RMSNorm before them takes the scale out
//	Wo, Wdown, scaled    normal, InitStd/√(2·L)   two a block write into the residual stream, and their sum over L blocks
//	                                              should not grow with the depth (as in GPT-2)
//	Wo, Wdown, plain     normal, InitStd          as all other weights (as in the transformers library)
//	norms                1
//	biases               0                        of attention's low-rank projections
//
// Scaled is the default here, since deep models start from a stream of the same size as shallow ones. The files that
// the paper's authors published (modeling_llama_GTA.py, modeling_llama_GLA.py) start every matrix plainly, as the
// library does whose Llama they changed: Plain repeats those.
//
// A graph.Store draws each parameter from a stream of its own, by its name and the seed.

// The values of Config.Init.
const (
	Scaled = "scaled"
	Plain  = "plain"
)

// outStd is the standard deviation that projections into the residual stream start with.
func (c Config) outStd() float64 {
	if c.Init == Plain {
		return c.InitStd
	}
	return c.InitStd / math.Sqrt(2*float64(c.Layers))
}

func matrix(name string, in, out int, std float64) graph.Param {
	return graph.Param{Name: name, Shape: []int{in, out}, Init: graph.Init{Std: std}, Decay: true}
}

func ones(name string, n int) graph.Param {
	return graph.Param{Name: name, Shape: []int{n}, Init: graph.Init{Mean: 1}}
}

// place is the Place of a block's attention.
func (c Config) place(name string) attention.Place {
	return attention.Place{Name: name, Width: c.Width, NormEps: c.NormEps, Std: c.InitStd, OutStd: c.outStd()}
}
