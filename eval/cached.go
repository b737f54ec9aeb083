package eval

import (
	"errors"

	"headroom/attention"
	"headroom/data"
	"headroom/decode"
)

// A Cached is what a checkpoint loses through a cache: every token is predicted by the decode engine from what the
// tokens before it left there, as in generation, but the text goes on as it stands.
type Cached struct {
	Cache      attention.CacheType `json:"cache_type"`
	TokenBytes int                 `json:"cache_bytes_per_token"` // in all layers
	Device     string              `json:"device"`
	Sets       []Result            `json:"sets"`
}

// cachedTokens are scored in a pass at most: a pass keeps the logits of each.
const cachedTokens = 512

// NewCachedPerplexity measures through the caches of a backend.
func NewCachedPerplexity(m *decode.Model, on decode.Backend, c Config) (*Perplexity, error) {
	c, err := c.resolve(m.Transformer)
	if err != nil {
		return nil, err
	}
	chunk := min(on.Chunk(), c.Batch*c.Context, cachedTokens)
	e, err := decode.Open(m, on, decode.Options{Pages: c.Batch * decode.PagesFor(c.Context+1), Rows: c.Batch,
		Chunk: chunk, Scored: chunk})
	if err != nil {
		return nil, err
	}
	return newPerplexity(c, &cachedPass{e}), nil
}

// A cachedPass scores the rows of a batch as prompts.
type cachedPass struct{ *decode.Engine }

func (p *cachedPass) nll(b *data.Batch, nll []float32) ([]float32, error) {
	if len(nll) < len(b.Targets) {
		nll = make([]float32, len(b.Targets))
	}
	rows := make([]*decode.Sequence, b.B)
	for i := range rows {
		inputs, targets := b.Inputs[i*b.T:(i+1)*b.T], b.Targets[i*b.T:(i+1)*b.T]
		last := b.T - 1
		for last >= 0 && targets[last] < 0 {
			last--
		}
		if last < 0 {
			continue
		}
		prompt := append(append([]int32(nil), inputs[:last+1]...), targets[last])
		s, err := p.Submit(decode.Request{Prompt: prompt, Score: true, Echo: true})
		if err != nil {
			return nil, err
		}
		rows[i] = s
	}
	for p.Busy() {
		if err := p.Step(); err != nil {
			return nil, err
		}
	}
	for i, s := range rows {
		if s == nil {
			continue
		}
		if len(s.Scores) != len(s.Prompt)-1 {
			return nil, errors.New("eval: the decode engine left a window without scores")
		}
		for j, score := range s.Scores {
			nll[i*b.T+j] = -score.LogProb
		}
	}
	return nll, nil
}
