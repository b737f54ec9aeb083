// Package decode is the inference engine: it keeps the caches of many requests in pages, takes their prompts in chunks and
// their new tokens one pass at a time, samples, and speculates. It knows tokens; text is the caller's, through a Vocabulary.
//
// The letters: N new tokens of a pass, T of them of one request, S tokens in its cache, V vocabulary, C model width.
package decode

import (
	"headroom/internal/graph"
	"headroom/model"
)

// A Model is a model with its weights by name, and the name of the tokenizer that its tokens come from.
type Model struct {
	*model.Transformer
	Weights   map[string][]float32
	Tokenizer string
}

// Load reads a checkpoint directory.
func Load(dir string) (*Model, error) {
	t, extra, err := model.Load(dir)
	if err != nil {
		return nil, err
	}
	return newModel(t, extra["tokenizer"], func(s *graph.Store) error { return t.LoadValues(dir, s) })
}

// Random gives a model the weights that its training would start with, to measure speed by.
func Random(t *model.Transformer, seed uint64) (*Model, error) {
	return newModel(t, "", func(s *graph.Store) error { return s.Init(seed) })
}

func newModel(t *model.Transformer, tokenizer string, fill func(*graph.Store) error) (*Model, error) {
	store, err := graph.NewStore(graph.NewCPU(), t.Params())
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if err := fill(store); err != nil {
		return nil, err
	}
	m := &Model{Transformer: t, Weights: map[string][]float32{}, Tokenizer: tokenizer}
	for _, p := range t.Params() {
		if m.Weights[p.Name], err = store.Value(p.Name); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// WeightBytes is what a pass reads of the weights, at size bytes an element: all but an embedding that is only looked up.
func (m *Model) WeightBytes(size int) (n int64) {
	for name, w := range m.Weights {
		if name != "embed" || m.Config.Tie {
			n += int64(len(w)) * int64(size)
		}
	}
	return n
}
