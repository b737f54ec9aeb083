package eval

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"headroom/data"
	"headroom/internal/graph"
	"headroom/model"
)

// A Result has the loss of a model on one set. Every token but the set's first (an end-of-text token in shards made by
// data.Prepare) is predicted once. Bytes and words are those of the text behind the tokens; they and the figures that
// rest on them are missing where the shards came without counts, or where only part of a set was measured. A word
// perplexity too large for a number, as of a text almost without spaces, is missing too.
type Result struct {
	Set            string  `json:"set"`
	Tokens         int64   `json:"tokens"` // targets
	Bytes          int64   `json:"bytes,omitempty"`
	Words          int64   `json:"words,omitempty"`
	Context        int     `json:"context"`
	Stride         int     `json:"stride"`
	Masked         bool    `json:"within_documents,omitempty"` // attention stayed within documents
	NLL            float64 `json:"nll"`                        // nats a token
	Perplexity     float64 `json:"perplexity"`
	BitsPerByte    float64 `json:"bits_per_byte,omitempty"` // comparable across tokenizers
	WordPerplexity float64 `json:"word_perplexity,omitempty"`
	Blocks         []Block `json:"blocks,omitempty"` // by document; none where the shards do not say where documents begin
}

// A Perplexity measures one model on any number of sets, with one compiled pass. Each call uses the store's weights as
// they are then.
type Perplexity struct {
	Progress io.Writer // where the progress of a long measurement goes; nil for nowhere

	config Config
	pass   pass
	batch  *data.Batch
	masked bool      // attention stays within documents
	nll    []float32 // [B, T]
}

// A pass is what the likelihood of a batch's targets comes from. It may reuse nll, [B, T]; only what belongs to a
// target counts.
type pass interface {
	nll(b *data.Batch, nll []float32) ([]float32, error)
	Close() error
}

// A forward pass is the training pass of a model.
type forward struct {
	*graph.Program
	documents *data.Documents // nil where attention reads all of a row
	starts    []int32
}

func (f forward) nll(b *data.Batch, nll []float32) ([]float32, error) {
	if err := f.SetTokens("tokens", b.Inputs); err != nil {
		return nil, err
	}
	if err := f.SetTokens("targets", b.Targets); err != nil {
		return nil, err
	}
	if f.documents != nil {
		f.documents.Starts(b, f.starts)
		if err := f.SetTokens(graph.Documents, f.starts); err != nil {
			return nil, err
		}
	}
	if err := f.RunAll(); err != nil {
		return nil, err
	}
	return f.Output(0, nll)
}

// resolve fills in what the model decides, and checks the rest.
func (c Config) resolve(m *model.Transformer) (Config, error) {
	if c.Context == 0 {
		c.Context = m.Config.Context
	}
	if c.Context > m.Config.Context {
		return c, fmt.Errorf("eval: context must be at most the model's %d, not %d", m.Config.Context, c.Context)
	}
	if c.Stride == 0 {
		c.Stride = c.Context
	}
	return c, c.Validate()
}

func newPerplexity(c Config, p pass) *Perplexity {
	return &Perplexity{config: c, pass: p, batch: data.NewBatch(c.Batch, c.Context)}
}

// NewPerplexity compiles the forward pass of a model whose parameters are in store. Where documents are given,
// attention stays within them.
func NewPerplexity(store *graph.Store, m *model.Transformer, c Config, documents *data.Documents) (*Perplexity,
	error) {
	c, err := c.resolve(m)
	if err != nil {
		return nil, err
	}
	prog, err := graph.Compile(store, c.Batch, c.Context, func(b *graph.Builder) []*graph.Node {
		b.Documents = documents != nil
		return []*graph.Node{m.NLL(b, b.Tokens("tokens"), b.Tokens("targets"))} // [B, T]
	})
	if noRoom := (*graph.MemoryError)(nil); errors.As(err, &noRoom) {
		return nil, fmt.Errorf("eval: %w; a smaller eval.batch or eval.context needs less", err)
	}
	if err != nil {
		return nil, err
	}
	p := newPerplexity(c, forward{prog, documents, make([]int32, c.Batch*c.Context)})
	p.masked = documents != nil
	return p, nil
}

// Close frees the pass.
func (p *Perplexity) Close() error { return p.pass.Close() }

// Measure walks a set from its start.
func (p *Perplexity) Measure(ctx context.Context, name string, set *data.Tokens) (r Result, err error) {
	c := p.config
	windows, err := data.NewWindows(set, c.Context, c.Stride)
	if err != nil {
		return r, fmt.Errorf("eval: %s: %w", name, err)
	}
	want := windows.Targets()
	if c.Tokens > 0 {
		want = min(want, int64(c.Tokens))
	}
	bar := newProgress(p.Progress, name, want, "tokens")
	defer bar.done()
	r = Result{Set: name, Context: c.Context, Stride: c.Stride, Masked: p.masked}
	sum, documents := 0.0, newBlocks(set.Meta)
	for r.Tokens < want {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if err := windows.Next(p.batch); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return r, fmt.Errorf("eval: %s: %w", name, err)
		}
		nll, n, err := p.run(want-r.Tokens, documents)
		if err != nil {
			return r, fmt.Errorf("eval: %s: %w", name, err)
		}
		sum += nll
		r.Tokens += n
		bar.at(r.Tokens)
	}
	if r.Tokens != want {
		panic(fmt.Sprintf("eval: %s: the windows had %d targets, not %d", name, r.Tokens, want))
	}
	if err := finite(sum / float64(want)); err != nil {
		return r, fmt.Errorf("eval: %s: %w", name, err)
	}
	r.Blocks = documents.all()
	r.finish(sum, set.Meta, want == windows.Targets())
	return r, nil
}

// finite is an error where a loss in nats, or its exponential, is not finite.
func finite(nats float64) error {
	if e := math.Exp(nats); math.IsNaN(e) || math.IsInf(e, 0) {
		return fmt.Errorf(
			"the model's loss is %v nats a token, which is no perplexity: its weights are damaged, or training diverged", nats)
	}
	return nil
}

// run sums the likelihood of the batch's first most targets, counts them, and adds them to their documents.
func (p *Perplexity) run(most int64, documents *blocks) (sum float64, n int64, err error) {
	for i, target := range p.batch.Targets {
		if target < 0 {
			continue
		}
		if n == most {
			p.batch.Targets[i] = -1
			continue
		}
		n++
	}
	if p.nll, err = p.pass.nll(p.batch, p.nll); err != nil {
		return 0, 0, err
	}
	for i, target := range p.batch.Targets {
		if target >= 0 {
			sum += float64(p.nll[i])
			documents.add(target, float64(p.nll[i]))
		}
	}
	return sum, n, nil
}

// finish turns the summed likelihood into the figures.
func (r *Result) finish(sum float64, meta *data.Meta, whole bool) {
	r.NLL = sum / float64(r.Tokens)
	r.Perplexity = math.Exp(r.NLL)
	if meta == nil || !whole {
		return
	}
	if r.Bytes = meta.Bytes; r.Bytes > 0 {
		r.BitsPerByte = sum / math.Ln2 / float64(r.Bytes)
	}
	if r.Words = meta.Words; r.Words > 0 {
		if w := math.Exp(sum / float64(r.Words)); !math.IsInf(w, 0) {
			// the word perplexity of a text with few spaces overflows
			r.WordPerplexity = w
		}
	}
}
