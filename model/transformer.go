// Package model is the language model around an attention layer: a Llama-style decoder with RMSNorm, SwiGLU, rotary
// positions and a head that may be tied to the embedding.
//
// New declares a Transformer from a Config and an attention.Config. Loss, NLL and Logits write its passes into a
// graph.Builder, Decode runs it over some new tokens with a cache. Count gives its parameters and operations,
// CacheBytes what a token leaves in the cache, Analyze and Predict what decoding takes on a GPU. Save and Write leave
// its checkpoint, a safetensors file that says in its header which model it is, and Load reads one.
package model

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"headroom/attention"
	"headroom/internal/graph"
)

// Config is the model without its attention.
type Config struct {
	Layers  int     `mapstructure:"layers" yaml:"layers"`     // blocks of attention and MLP
	Width   int     `mapstructure:"width" yaml:"width"`       // columns of the residual stream, C
	MLP     int     `mapstructure:"mlp" yaml:"mlp"`           // columns inside the SwiGLU, F
	Vocab   int     `mapstructure:"vocab" yaml:"vocab"`       // rows of the embedding, V: at least the tokenizer's ids
	Context int     `mapstructure:"context" yaml:"context"`   // tokens of the longest sequence
	NormEps float64 `mapstructure:"norm_eps" yaml:"norm_eps"` // epsilon of every RMSNorm
	Tie     bool    `mapstructure:"tie" yaml:"tie"`           // the embedding is the output head too
	// where the norms of a block stand: before attention and the MLP (pre), behind them as in OLMo 2 (post), or before and
	// behind as in Gemma 3 (both)
	Norm string `mapstructure:"norm" yaml:"norm"`

	// what gates the MLP: silu, or gelu_tanh, the tanh form of GELU
	Activation string `mapstructure:"activation" yaml:"activation"`
	// embeddings are multiplied by √width as they are looked up, as in Gemma
	EmbedScale bool `mapstructure:"embed_scale" yaml:"embed_scale"`

	// standard deviation of the normal distribution that matrices start from
	InitStd float64 `mapstructure:"init_std" yaml:"init_std"`
	// projections into the residual stream start with init_std/√(2·layers) (scaled) or with init_std as all others
	// (plain)
	Init string `mapstructure:"init" yaml:"init"`
}

// maxLayers is beyond any model; a graph of so many blocks still fits in memory.
const maxLayers = 10000

// Default is a small model over bytes.
func Default() Config {
	return Config{Layers: 4, Width: 128, MLP: 384, Vocab: 257, Context: 256, NormEps: 1e-5, Tie: true,
		Norm: PreNorm, Activation: SiLU, InitStd: 0.02, Init: Scaled}
}

// Validate states the rule that a value breaks.
func (c Config) Validate() error {
	for _, r := range []struct {
		key string
		val int
	}{{"layers", c.Layers}, {"width", c.Width}, {"mlp", c.MLP}, {"vocab", c.Vocab}, {"context", c.Context}} {
		if r.val < 1 {
			return fmt.Errorf("model: %s must be positive, it is %d", r.key, r.val)
		}
	}
	if c.Layers > maxLayers {
		return fmt.Errorf("model: layers must be at most %d, it is %d", maxLayers, c.Layers)
	}
	if !(c.NormEps > 0 && c.NormEps < 1) {
		return fmt.Errorf("model: norm_eps must be between 0 and 1, it is %v", c.NormEps)
	}
	if !(c.InitStd > 0 && c.InitStd < 10) {
		return fmt.Errorf("model: init_std must be between 0 and 10, it is %v", c.InitStd)
	}
	if c.Norm != PreNorm && c.Norm != PostNorm && c.Norm != BothNorms && c.Norm != "" {
		return fmt.Errorf("model: norm must be %s, %s or %s, it is %s", PreNorm, PostNorm, BothNorms, c.Norm)
	}
	if c.Activation != SiLU && c.Activation != GELUTanh && c.Activation != "" {
		return fmt.Errorf("model: activation must be %s or %s, it is %s", SiLU, GELUTanh, c.Activation)
	}
	if c.Init != Scaled && c.Init != Plain && c.Init != "" {
		return fmt.Errorf("model: init must be %s or %s, it is %s", Scaled, Plain, c.Init)
	}
	return nil
}

// A Transformer declares the parameters of a decoder and builds its passes.
type Transformer struct {
	Config    Config
	Attention attention.Config // of all layers, or of the first where one configuration does not say them all

	pattern []attention.Config // layer i attends as layer i of pattern[i%len(pattern)]

	embed  graph.Param // [V, C]
	blocks []block
	norm   graph.Param // [C]
	head   graph.Param // [V, C], the embedding where they are tied
}

// New lays out a model. Its parameters get values from a graph.Store.
func New(c Config, a attention.Config) (*Transformer, error) {
	return Patterned(c, []attention.Config{a})
}

// Patterned is New for layers that differ: they attend by the configurations of a pattern in turn, over and over again.
func Patterned(c Config, pattern []attention.Config) (*Transformer, error) {
	if len(pattern) == 0 {
		return nil, errors.New("model: a pattern of layers must have at least one attention configuration")
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Init, c.Norm = cmp.Or(c.Init, Scaled), cmp.Or(c.Norm, PreNorm) // a file of an older version does not say
	c.Activation = cmp.Or(c.Activation, SiLU)
	t := &Transformer{
		Config: c, Attention: pattern[0], pattern: pattern,
		embed: matrix("embed", c.Vocab, c.Width, c.InitStd),
		norm:  ones("norm", c.Width),
	}
	t.head = t.embed
	if !c.Tie {
		t.head.Name = "head"
	}
	for i := range c.Layers {
		b, err := newBlock(c, t.LayerAttention(i), fmt.Sprintf("blocks.%d", i))
		if err != nil {
			return nil, err
		}
		t.blocks = append(t.blocks, b)
	}
	return t, nil
}

// LayerAttention is the configuration of a layer's attention.
func (t *Transformer) LayerAttention(layer int) attention.Config {
	return t.pattern[layer%len(t.pattern)].Layer(layer)
}

// Window is the largest window of its layers, 0 where none has one.
func (t *Transformer) Window() (most int) {
	for i := range t.Config.Layers {
		most = max(most, t.LayerAttention(i).Window)
	}
	return most
}

// Uniform says that one configuration says how all layers attend.
func (t *Transformer) Uniform() bool {
	return !slices.ContainsFunc(t.pattern, func(a attention.Config) bool { return a != t.Attention })
}

// embedScale is √C in float32, as Gemma's reference has it.
func (c Config) embedScale() float64 { return float64(float32(math.Sqrt(float64(c.Width)))) }

// Params lists all parameters in checkpoint order.
func (t *Transformer) Params() []graph.Param {
	ps := []graph.Param{t.embed}
	for _, b := range t.blocks {
		ps = append(ps, b.params()...)
	}
	ps = append(ps, t.norm)
	if !t.Config.Tie {
		ps = append(ps, t.head)
	}
	return ps
}

// Hidden is the pass up to the final norm: [B, T] -> [B, T, C].
func (t *Transformer) Hidden(b *graph.Builder, tokens *graph.Node) *graph.Node {
	x := b.Embed(b.Param(t.embed), tokens) // [B, T, C]
	if t.Config.EmbedScale {
		x = b.Scale(x, t.Config.embedScale())
	}
	for _, block := range t.blocks {
		x = block.forward(b, b.Boundary(x))
	}
	x = b.Boundary(x)
	return b.RMSNorm(x, b.Param(t.norm), t.Config.NormEps)
}

// Loss is the mean negative log-likelihood of targets [B, T], with zloss times the mean squared log-sum-exp.
func (t *Transformer) Loss(b *graph.Builder, tokens, targets *graph.Node, zloss float64) *graph.Node {
	return b.Loss(t.Hidden(b, tokens), b.Param(t.head), targets, zloss)
}

// NLL is the negative log-likelihood of each target: [B, T].
func (t *Transformer) NLL(b *graph.Builder, tokens, targets *graph.Node) *graph.Node {
	return b.NLL(t.Hidden(b, tokens), b.Param(t.head), targets)
}

// Logits scores every token of the vocabulary at every position: [B, T, V].
func (t *Transformer) Logits(b *graph.Builder, tokens *graph.Node) *graph.Node {
	return b.Logits(t.Hidden(b, tokens), b.Param(t.head))
}
