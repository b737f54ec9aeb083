package decode

import (
	"headroom/attention"
	"headroom/internal/graph"
)

// A Device holds the weights and the cache pool of a model and runs passes over them. A pass is what a Model does in terms
// of these operations; a device may run them as they come, or record them once for a size of batch.
type Device interface {
	attention.Step
	Embed(table graph.Param) graph.Buf           // [N, C]
	Add(x, y graph.Buf)                          // x += y
	SwiGLU(gate, up graph.Buf) graph.Buf         //
	Select(x graph.Buf) graph.Buf                // the rows that the batch scores
	Logits(x graph.Buf, w graph.Param) graph.Buf // x·wᵀ, w [V, C]
	Release()                                    // every value but that of Embed is done with

	// Pass runs a pass over a batch. The logits are valid until the next one.
	Pass(b Batch, pass func(Device) graph.Buf) ([]float32, error)
	Close() error
}

// A Batch is the new tokens of some requests, one request after the other.
type Batch struct {
	Tokens    []int32 // [N]
	Positions []int32 // [N], of each token in its request
	Rows      []Row
	Score     []int32 // the tokens, of the N, whose logits are wanted
}

// A Row is the part of a batch that belongs to one request: tokens From to From+T of the batch, at positions Start to
// Start+T of the request, whose cache lies in Pages.
type Row struct {
	Pages          []int32
	Start, From, T int
}

// add appends a row of tokens that go to position start of a cache; the last scored of them have their logits wanted.
func (b *Batch) add(pages []int32, start int, tokens []int32, scored int) {
	from := len(b.Tokens)
	b.Rows = append(b.Rows, Row{pages, start, from, len(tokens)})
	for i, t := range tokens {
		b.Tokens = append(b.Tokens, t)
		b.Positions = append(b.Positions, int32(start+i))
		if i >= len(tokens)-scored {
			b.Score = append(b.Score, int32(from+i))
		}
	}
}
