// Package decode is the inference engine: it keeps the caches of many requests in pages, takes their prompts in chunks and
// their new tokens one pass at a time, samples, and speculates. It knows tokens; text is the caller's, through a Vocabulary.
//
// The letters: N new tokens of a pass, T of them of one request, S tokens in its cache, V vocabulary, C model width.
package decode

import (
	"fmt"

	"headroom/attention"
	"headroom/internal/graph"
	"headroom/model"
)

// A Model is a model with its weights by name, and the name of the tokenizer that its tokens come from.
type Model struct {
	*model.Transformer
	Weights   map[string][]float32
	Tokenizer string

	embed, norm, head graph.Param
	blocks            []block
}

type block struct {
	norm1, norm2, gate, up, down graph.Param
	attn                         attention.Layer
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
	params := map[string]graph.Param{}
	for _, p := range t.Params() {
		params[p.Name] = p
		if m.Weights[p.Name], err = store.Value(p.Name); err != nil {
			return nil, err
		}
	}
	m.embed, m.norm, m.head = params["embed"], params["norm"], params["head"]
	if t.Config.Tie {
		m.head = m.embed
	}
	for i := range t.Config.Layers {
		name := fmt.Sprintf("blocks.%d.", i)
		attn, err := attention.New(t.Attention, attention.Place{Name: name + "attn", Width: t.Config.Width, NormEps: t.Config.NormEps})
		if err != nil {
			return nil, err
		}
		m.blocks = append(m.blocks, block{
			norm1: params[name+"norm1"], norm2: params[name+"norm2"],
			gate: params[name+"mlp.Wgate"], up: params[name+"mlp.Wup"], down: params[name+"mlp.Wdown"], attn: attn,
		})
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

// pass is the model over the new tokens of a batch: the logits of those that the batch asks for.
func (m *Model) pass(d Device) graph.Buf {
	eps := m.Config.NormEps
	x := d.Embed(m.embed) // [N, C]
	for i, k := range m.blocks {
		d.Add(x, k.attn.Decode(d, i, d.RMSNorm(x, k.norm1, eps)))
		h := d.RMSNorm(x, k.norm2, eps)
		h = d.SwiGLU(d.Linear(h, k.gate, nil), d.Linear(h, k.up, nil)) // [N, F]
		d.Add(x, d.Linear(h, k.down, nil))                             // [N, C]
		d.Release()
	}
	x = d.Select(x)                                    // [len(Score), C]
	return d.Logits(d.RMSNorm(x, m.norm, eps), m.head) // [len(Score), V]
}
