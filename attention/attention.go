// Package attention holds the attention kinds that headroom compares, one file each, written like the paper they come
// from ("Hardware-Efficient Attention for Fast Decoding", arXiv 2505.21487, where the file names no other): the
// equations, the weights with their shapes, the training pass, and what one token leaves in the cache.
//
// GTA here is grouped-TIED attention and GLA is grouped LATENT attention; elsewhere GLA is gated linear attention, and
// another paper has a GTA of its own. The number in a name counts key/value or latent heads: gqa-4, gta-4, gla-2.
//
// The letters: B batch, T tokens, C model width, H query heads, G key/value heads, n latent heads, D head dim, R its
// rotary part, L dim of one latent head. Weights act as x·W.
package attention

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"headroom/internal/graph"
)

// A Layer is one attention layer: its parameters, its training pass, what one token leaves in the cache, and the pass
// of new tokens against what is there.
type Layer interface {
	Params() []graph.Param
	Forward(b *graph.Builder, x *graph.Node) *graph.Node // [B, T, C] -> [B, T, C]
	CacheLayout() Layout
	Decode(s Step, layer int, x graph.Buf) graph.Buf // [N, C] -> [N, C]
}

// Config describes the attention of every layer. A zero dimension is the kind's default in the paper; Resolve fills it
// in.
type Config struct {
	// how queries, keys and values are made and cached: gqa, gta, mla, gla and others, see attention.md
	Kind Kind `mapstructure:"kind" yaml:"kind"`
	// key/value heads (gqa, gta, gqla), latent heads (gla, gla_q), or latents that each head reads (mlra)
	Groups int `mapstructure:"groups" yaml:"groups"`
	// query heads
	Heads int `mapstructure:"heads" yaml:"heads"`
	// columns of a head, D
	HeadDim int `mapstructure:"head_dim" yaml:"head_dim"`
	// columns of a key that rotate with the position, R; 0 is the kind's own
	RopeDim int `mapstructure:"rope_dim" yaml:"rope_dim"`
	// latents of mlra, n; 0 is the 4 of its paper
	Latents int `mapstructure:"latents" yaml:"latents"`
	// columns of each latent, L; 0 is the kind's own
	LatentDim int `mapstructure:"latent_dim" yaml:"latent_dim"`
	// columns of the latent that queries come from (latent kinds, mfa and mfa_kr); 0 is the kind's own
	QueryLatentDim int `mapstructure:"query_latent_dim" yaml:"query_latent_dim"`
	// gla_q norms each part of its query latent apart (parts, the default), so that devices can divide it, or all as one
	// (whole)
	QueryNorm string `mapstructure:"query_norm" yaml:"query_norm"`
	// RMSNorm of queries and keys before they rotate, in mha, gqa, mqa and mfa: none, of each head apart with one weight
	// for all heads (head), or of all heads as one vector (all)
	QKNorm string `mapstructure:"qk_norm" yaml:"qk_norm"`
	// products of factors that the queries of tpa are sums of; 0 is the paper's 6
	QueryRank int `mapstructure:"query_rank" yaml:"query_rank"`
	// products of factors that the keys and the values of tpa are sums of; 0 is the paper's 2
	KVRank int `mapstructure:"kv_rank" yaml:"kv_rank"`
	// values are the keys as they are before they rotate, in mha, gqa and mqa: one state is cached for both
	TieKV bool `mapstructure:"tie_kv" yaml:"tie_kv"`
	// paper puts biases on low-rank projections and on GTA's rope key, none puts them nowhere
	Bias string `mapstructure:"bias" yaml:"bias"`
	// base of the rotary embedding's wavelengths
	RopeTheta float64 `mapstructure:"rope_theta" yaml:"rope_theta"`
	// multiplies what heads have attended by a sigmoid of the layer's input, before Wo: by one number a head (head), one a
	// column (element), or not at all (none)
	Gate string `mapstructure:"gate" yaml:"gate"`
	// the gate is made of so many of the first columns of the layer's input; 0 is all
	GateWidth int `mapstructure:"gate_width" yaml:"gate_width"`
	// scores are divided by the root of this; 0 is head_dim
	ScaleDim float64 `mapstructure:"scale_dim" yaml:"scale_dim"`
	// the rotary embedding for contexts longer than those that the model was first trained on
	RopeScaling RopeScaling `mapstructure:"rope_scaling" yaml:"rope_scaling"`
	// keys that a query reads at most in window layers, its own with them; 0: all keys, in every layer
	Window int `mapstructure:"window" yaml:"window"`
	// what layers are in turn, over and over again: [window, window, full]; empty: all are window layers, where window is
	// set
	Pattern Pattern `mapstructure:"pattern" yaml:"pattern"`
	// base of the rotary embedding's wavelengths in window layers among full ones, which has no scaling then; 0: they
	// rotate as full layers do
	WindowRopeTheta float64 `mapstructure:"window_rope_theta" yaml:"window_rope_theta"`

	shard bool `mapstructure:"-"` // what a device has: its heads may read other latents elsewhere
}

// How GLA_q norms its query latent. Checkpoints that do not say are of the time when it was always normed whole.
const (
	WholeNorm = "whole"
	PartsNorm = "parts"
)

// Default is GQA with four key/value heads.
func Default() Config {
	return Config{Kind: GQA, Groups: 4, Heads: 4, HeadDim: 32, Bias: "paper", QKNorm: NoNorm, Gate: NoGate,
		RopeTheta: 10000}
}

// Parse reads a name such as gta-4, gla_q-2 or mla.
func Parse(name string) (Kind, int, error) {
	kind, suffix, numbered := strings.Cut(name, "-")
	groups, err := 0, error(nil)
	if numbered {
		groups, err = strconv.Atoi(suffix)
	}
	k := Kind(kind)
	d, unknown := k.Describe()
	if err != nil || unknown != nil || numbered != (d.Usual > 0) || numbered && groups < 1 {
		all := Names()
		last := len(all) - 1
		return "", 0, fmt.Errorf("attention: %q is not a kind: %s or %s (the number counts key/value or latent heads)", name,
			strings.Join(all[:last], ", "), all[last])
	}
	return k, groups, nil
}

// Name is the kind with its number: gqa-4, mla. That of an unknown kind is the kind alone.
func (c Config) Name() string {
	d, err := c.Kind.Describe()
	if err != nil {
		return string(c.Kind)
	}
	return d.Name(c.Groups)
}

// Resolve fills in the kind's own number of groups and the paper's default dimensions. An unknown kind has none.
func (c Config) Resolve() Config {
	c.resolve()
	return c
}

// CachedHeads are the key/value or latent heads that a token leaves in the cache.
func (c Config) CachedHeads() int {
	if c = c.Resolve(); c.Kind.known().Apart {
		return c.Latents
	}
	if c.Kind.known().One {
		return 1
	}
	return c.Groups
}

// Branches are the cached heads that each query head reads apart: 1, but for MLRA.
func (c Config) Branches() int {
	if c = c.Resolve(); c.Kind.known().Apart {
		return min(c.Groups, c.Latents)
	}
	return 1
}

// Reads are the pairs of a query head and a cached one that it reads.
func (c Config) Reads() int { return c.Heads * c.Branches() }

// Laws are the rules by which Resolve gives keys of the configuration, such as latent_dim, other values than they have.
func (c Config) Laws() map[string]string { return c.resolve() }

func (c *Config) resolve() map[string]string {
	laws := map[string]string{}
	// older files do not say
	c.QKNorm, c.Gate = cmp.Or(c.QKNorm, NoNorm), cmp.Or(c.Gate, NoGate)
	if d, err := c.Kind.Describe(); err == nil {
		d.defaults(settings{c, laws})
	}
	return laws
}

// Shape is what the products of attention see of the configuration.
func (c Config) Shape() Shape { return c.Kind.known().shape(c.Resolve()) }

// Validate states the rule that a configuration breaks.
func (c Config) Validate() error {
	d, err := c.Kind.Describe()
	if err != nil {
		return err
	}
	r := c.Resolve()
	fail := func(format string, args ...any) error {
		return fmt.Errorf("attention: %s: "+format, append([]any{c.Kind}, args...)...)
	}
	switch {
	case c.Heads < 1 || c.HeadDim < 1:
		return fail("heads and head_dim must be positive, they are %d and %d", c.Heads, c.HeadDim)
	case r.Groups < 1:
		return fail("groups must be positive, it is %d", c.Groups)
	case !d.Apart && c.Heads%r.Groups != 0:
		return fail("%d %s do not divide %d query heads", r.Groups, d.heads(), c.Heads)
	case r.RopeDim < 2 || r.RopeDim%2 != 0:
		return fail("rope_dim must be even and positive, it is %d", r.RopeDim)
	case c.QueryNorm != "" && c.QueryNorm != WholeNorm && c.QueryNorm != PartsNorm:
		return fail("query_norm is whole or parts, not %q", c.QueryNorm)
	case c.QueryNorm == PartsNorm && !d.Split:
		return fail("query_norm parts needs parts of the query latent, which only gla_q has")
	case c.Bias != "paper" && c.Bias != "none":
		return fail("bias is paper or none, not %q", c.Bias)
	case !(c.RopeTheta > 1):
		return fail("rope_theta must be above 1, it is %v", c.RopeTheta)
	}
	for _, err := range []error{c.RopeScaling.validate(), c.checkWindow(), c.checkQKNorm(d), checkGate(c),
		c.checkTie(d), c.checkScale(d), d.check(r)} {
		if err != nil {
			return fail("%w", err)
		}
	}
	return nil
}

// A Place is what a layer takes from the model that it stands in.
type Place struct {
	Name    string  // its parameters are Name.Wq and so on
	Width   int     // C
	NormEps float64 // of the norms of latents, queries and keys
	Std     float64 // weights start normal with this standard deviation,
	OutStd  float64 // and the output projection with this one
}

// weights declares the parameters of one layer.
type weights struct {
	name string
	std  float64
}

func (w weights) matrix(name string, shape ...int) graph.Param {
	return graph.Param{Name: w.name + "." + name, Shape: shape, Init: graph.Init{Std: w.std}, Decay: true}
}

// bias is nil where the configuration has none.
func (w weights) bias(c Config, name string, shape ...int) *graph.Param {
	if c.Bias == "none" {
		return nil
	}
	return &graph.Param{Name: w.name + "." + name, Shape: shape}
}

// optional is the node of a parameter that may not exist.
func optional(b *graph.Builder, p *graph.Param) *graph.Node {
	if p == nil {
		return nil
	}
	return b.Param(*p)
}

// list collects the parameters that exist, in checkpoint order.
func list(ps ...*graph.Param) (all []graph.Param) {
	for _, p := range ps {
		if p != nil {
			all = append(all, *p)
		}
	}
	return all
}

// gain multiplies columns of what is added: it begins at 0.
func (w weights) gain(name string, shape ...int) graph.Param {
	return graph.Param{Name: w.name + "." + name, Shape: shape}
}

func (w weights) norm(name string, shape ...int) graph.Param {
	return graph.Param{Name: w.name + "." + name, Shape: shape, Init: graph.Init{Mean: 1}}
}

// New makes a layer for its place; of a pattern, the first.
func New(c Config, p Place) (Layer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.Layer(0).Resolve()
	if c.GateWidth > p.Width {
		return nil, fmt.Errorf("attention: gate_width is %d, and the layer's input has %d columns", c.GateWidth, p.Width)
	}
	w := weights{p.Name, p.Std}
	out := weights{p.Name, p.OutStd}.matrix("Wo", c.Heads*c.HeadDim, p.Width)
	a := c.Kind.known().layer(c, p, w, out)
	if c.Gated() && !slices.ContainsFunc(a.Params(), func(q graph.Param) bool { return q.Name == p.Name+".Wg" }) {
		return nil, fmt.Errorf("attention: %s has no output gate, and gate is %s", c.Kind, c.Gate)
	}
	return a, nil
}
