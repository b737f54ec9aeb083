// Package decode is the inference engine: it keeps the caches of many requests in pages, takes their prompts in chunks
// and their new tokens one pass at a time, samples, and speculates. It knows tokens; text is the caller's, through a
// Vocabulary.
//
// The letters: N new tokens of a pass, T of them of one request, S tokens in its cache, V vocabulary, C model width.
package decode

import (
	"cmp"
	"math/rand/v2"

	"headroom/kernels/ref"
	"headroom/model"
)

// A Model is a model with its weights by name, and the name of the tokenizer that its tokens come from.
type Model struct {
	*model.Transformer
	Weights   map[string][]float32
	Tokenizer string

	// Of a shard that has the embedding and the head for some tokens alone, these are the first of them and how many all
	// shards have together. They are 0 for all other models.
	First, Whole int
}

// Vocab is how many tokens there are, whatever part of them a shard has.
func (m *Model) Vocab() int { return cmp.Or(m.Whole, m.Config.Vocab) }

// Load reads a checkpoint directory.
func Load(dir string) (*Model, error) {
	t, extra, err := model.Load(dir)
	if err != nil {
		return nil, err
	}
	weights, err := t.OpenWeights(dir)
	if err != nil {
		return nil, err
	}
	defer weights.Close()
	m := &Model{Transformer: t, Weights: map[string][]float32{}, Tokenizer: extra["tokenizer"]}
	for _, p := range t.Params() {
		if m.Weights[p.Name], err = weights.Value(p.Name); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Random gives a model weights that are distributed as those that training starts with, to measure speed by: the same
// for a seed on any machine, drawn by all cores.
func Random(t *model.Transformer, seed uint64) *Model {
	const block = 1 << 16
	m := &Model{Transformer: t, Weights: map[string][]float32{}}
	for i, p := range t.Params() {
		x := make([]float32, p.Size())
		ref.Spans((len(x)+block-1)/block, func(lo, hi int) {
			for b := lo; b < hi; b++ {
				r := rand.New(rand.NewPCG(seed, uint64(i)<<32|uint64(b)))
				part := x[b*block : min((b+1)*block, len(x))]
				for j := range part {
					part[j] = float32(p.Init.Mean + p.Init.Std*r.NormFloat64())
				}
			}
		})
		m.Weights[p.Name] = x
	}
	return m
}

// WeightBytes is what a pass reads of the weights, at size bytes an element: all but an embedding that is only looked
// up.
func (m *Model) WeightBytes(size int) (n int64) {
	for name, w := range m.Weights {
		if name != "embed" || m.Config.Tie {
			n += int64(len(w)) * int64(size)
		}
	}
	return n
}
