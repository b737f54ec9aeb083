package model

import (
	"headroom/attention"
	"headroom/internal/graph"
)

// A Step runs the operations of decoding on one device, over the N new tokens of a batch of requests: those of
// attention, and what stands round it. Decode calls it as Hidden and Logits call a graph.Builder.
type Step interface {
	attention.Step
	Embed(table graph.Param) graph.Buf           // [N, C]
	Add(x, y graph.Buf)                          // x += y
	Scale(x graph.Buf, by float64)               // x *= by, of what Embed gave
	SwiGLU(gate, up graph.Buf) graph.Buf         // [N, F]
	GeGLU(gate, up graph.Buf) graph.Buf          // [N, F], with the tanh form of GELU
	Select(x graph.Buf) graph.Buf                // the rows that the batch scores
	Logits(x graph.Buf, w graph.Param) graph.Buf // x·wᵀ, w [V, C]
	Release()                                    // frees all results but that of Embed
}

// Decode is the pass of a batch's new tokens against its caches. It returns the logits of the tokens that the batch
// scores.
func (t *Transformer) Decode(s Step) graph.Buf {
	x := s.Embed(t.embed) // [N, C]
	if t.Config.EmbedScale {
		s.Scale(x, t.Config.embedScale())
	}
	for i, block := range t.blocks {
		block.decode(s, i, x)
		s.Release()
	}
	x = s.Select(x)                                                 // [scored, C]
	return s.Logits(s.RMSNorm(x, t.norm, t.Config.NormEps), t.head) // [scored, V]
}

func (k block) decode(s Step, layer int, x graph.Buf) {
	norm := func(x graph.Buf, w *graph.Param) graph.Buf {
		if w == nil {
			return x
		}
		return s.RMSNorm(x, *w, k.eps)
	}
	s.Add(x, norm(k.attn.Decode(s, layer, norm(x, k.norm1)), k.post1))
	s.Add(x, norm(k.mlp.decode(s, norm(x, k.norm2)), k.post2))
}

func (m mlp) decode(s Step, x graph.Buf) graph.Buf {
	gate := s.Linear(x, m.Wgate, nil) // [N, F]
	up := s.Linear(x, m.Wup, nil)     // [N, F]
	if m.gelu {
		return s.Linear(s.GeGLU(gate, up), m.Wdown, nil) // [N, C]
	}
	return s.Linear(s.SwiGLU(gate, up), m.Wdown, nil) // [N, C]
}
