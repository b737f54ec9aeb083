package attention

import (
	"fmt"
	"slices"
	"strings"

	"headroom/internal/graph"
)

// A Kind is a way of attending.
type Kind string

// The kinds. MHA and MQA are GQA with as many key/value heads as query heads, and with one; MLA is GLA with one latent.
const (
	MHA   Kind = "mha"
	MQA   Kind = "mqa"
	GQA   Kind = "gqa"
	MFA   Kind = "mfa"
	MFAKR Kind = "mfa_kr" // MFA whose values are made of its keys
	TPA   Kind = "tpa"
	GTA   Kind = "gta"
	MLA   Kind = "mla"
	GQLA  Kind = "gqla" // MLA whose heads of keys and values are shared by groups of query heads
	GLA   Kind = "gla"
	GLAQ  Kind = "gla_q" // GLA whose query latent is split over the latent heads too
	MLRA  Kind = "mlra"
)

// A Description is all that the rest of the program knows of a kind beside its layer.
type Description struct {
	Kind  Kind
	Title string    // in a few words, of which help is made
	Usual int       // where its name ends in the number of its heads of keys or latents, as gqa-4 does, the usual one
	Of    Kind      // the more general kind that it is at its own number of groups, if there is one
	Cache CacheForm // how keys and values are kept
	One   bool      // its cache has one latent, and groups count the heads of keys and values that are made of it
	Split bool      // its query latent has a part for each latent head
	Apart bool      // each head reads as many of its latents as there are groups, each by a softmax of its own

	// what it reads of bias, latents, latent_dim, query_latent_dim, query_norm, qk_norm, tie_kv, scale_dim and the ranks
	Keys    []string
	Parts   []string // weights [n, in, out] by which n parts of an input are multiplied apart; [in, out] is n = 1
	Library string   // the class of the transformers library that can compute it, if there is one
	Family  string   // its layer in modeling_headroom.py, by the name in config.json, or NoLayer

	defaults func(c settings)
	check    func(c Config) error // the rules that it has beside those of all kinds; c is resolved
	shape    func(c Config) Shape // c is resolved
	layer    func(c Config, p Place, w weights, out graph.Param) Layer
}

// NoLayer is the family of a kind that cannot be exported, since modeling_headroom.py has no layer for it.
const NoLayer = "none"

// Exported says that a kind has a layer in modeling_headroom.py.
func (d Description) Exported() bool { return d.Family != "" && d.Family != NoLayer }

// Descriptions are those of all kinds, from the largest cache to the smallest at equal heads. A kind is a file of this
// package, which has the functions, and an entry here.
var Descriptions = []Description{
	{
		Kind: MHA, Title: "a key and value head for each query head",
		Of: GQA, Cache: KeyValue, Keys: groupedKeys, Library: "LlamaForCausalLM", Family: "gqa",
		defaults: mhaDefaults, check: gqaCheck, shape: gqaShape, layer: newGQA,
	},
	{
		Kind: GQA, Title: "key/value heads that groups of query heads share",
		Usual: 4, Cache: KeyValue, Keys: groupedKeys, Library: "LlamaForCausalLM", Family: "gqa",
		defaults: gqaDefaults, check: gqaCheck, shape: gqaShape, layer: newGQA,
	},
	{
		Kind: MQA, Title: "one key/value head for all query heads",
		Of: GQA, Cache: KeyValue, Keys: groupedKeys, Library: "LlamaForCausalLM", Family: "gqa",
		defaults: mqaDefaults, check: gqaCheck, shape: gqaShape, layer: newGQA,
	},
	{
		Kind: MFA, Title: "one key/value head, which may be wide, and queries of low rank",
		Cache: KeyValue, Keys: []string{"query_latent_dim", "qk_norm"}, Family: "mfa",
		defaults: mfaDefaults, check: mfaCheck, shape: gqaShape, layer: newMFA,
	},
	{
		Kind: MFAKR, Title: "MFA with key reuse: values are made of the keys, which alone are cached",
		Cache: Unrotated, Keys: []string{"query_latent_dim"}, Family: "mfa_kr",
		defaults: mfaDefaults, check: mfaCheck, shape: gqaShape, layer: newMFAKR,
	},
	{
		Kind: TPA, Title: "tensor product attention: queries, keys and values are products of factors, which are cached",
		Cache: Factored, Keys: []string{"query_rank", "kv_rank"}, Family: "tpa",
		defaults: tpaDefaults, check: tpaCheck, shape: gqaShape, layer: newTPA,
	},
	{
		Kind: GTA, Title: "grouped-TIED attention: one state is key and value",
		Usual: 4, Cache: Tied, Keys: []string{"bias"}, Family: "gta",
		defaults: gtaDefaults, check: gtaCheck, shape: gtaShape, layer: newGTA,
	},
	{
		Kind: GLA, Title: "grouped LATENT attention, not gated linear attention: a latent for each group of heads",
		Usual: 2, Cache: Latent, Keys: latentKeys, Parts: latentParts, Family: "latent",
		defaults: glaDefaults, check: latentCheck, shape: latentShape, layer: newLatent,
	},
	{
		Kind: GLAQ, Title: "GLA whose queries come from parts of a latent, one for each group",
		Usual: 2, Cache: Latent, Split: true, Keys: append(latentKeys, "query_norm"), Parts: latentParts, Family: "latent",
		defaults: glaqDefaults, check: glaqCheck, shape: latentShape, layer: newLatent,
	},
	{
		Kind: MLRA, Title: "multi-head low-rank attention: each head reads 2 or 4 of 4 latents apart, and adds up",
		Usual: 4, Cache: Latent, Apart: true, Keys: []string{"latent_dim", "query_latent_dim", "latents"},
		Parts: latentParts, Family: "mlra",
		defaults: mlraDefaults, check: mlraCheck, shape: latentShape, layer: newMLRA,
	},
	{
		Kind: GQLA, Title: "one latent, made into key/value heads that groups of query heads share",
		Usual: 4, Cache: Latent, One: true, Keys: latentKeys, Parts: latentParts, Family: "gqla",
		defaults: gqlaDefaults, check: latentCheck, shape: latentShape, layer: newGQLA,
	},
	{
		Kind: MLA, Title: "one latent for all heads",
		Of: GLA, Cache: Latent, Keys: latentKeys, Parts: latentParts, Library: "DeepseekV3ForCausalLM", Family: "latent",
		defaults: mlaDefaults, check: latentCheck, shape: latentShape, layer: newLatent,
	},
}

// Kinds lists all kinds in that order.
var Kinds = kindsOf(Descriptions)

func kindsOf(all []Description) (kinds []Kind) {
	for _, d := range all {
		kinds = append(kinds, d.Kind)
	}
	return kinds
}

// Describe finds the description of a kind, or says that there is none.
func (k Kind) Describe() (Description, error) {
	i := slices.IndexFunc(Descriptions, func(d Description) bool { return d.Kind == k })
	if i < 0 {
		return Description{}, fmt.Errorf("attention: kind %q is none of %s", k, strings.Join(words(Kinds), ", "))
	}
	return Descriptions[i], nil
}

func words(kinds []Kind) (all []string) {
	for _, k := range kinds {
		all = append(all, string(k))
	}
	return all
}

// known is the description of a kind that Validate has seen.
func (k Kind) known() Description {
	d, err := k.Describe()
	if err != nil {
		panic(err)
	}
	return d
}

// Name is the kind's with a number of groups, where its name has one.
func (d Description) Name(groups int) string {
	if d.Usual == 0 {
		return string(d.Kind)
	}
	return fmt.Sprintf("%s-%d", d.Kind, groups)
}

// Names are those of all kinds, with the usual number of groups: mha, gqa-4 and so on.
func Names() (all []string) {
	for _, d := range Descriptions {
		all = append(all, d.Name(d.Usual))
	}
	return all
}

// General is the configuration of the same attention as one of the more general kind, as MHA is GQA of as many groups
// as heads, with nothing in keys that the kind does not read. Configurations of one attention are equal so.
func (c Config) General() Config {
	d, err := c.Kind.Describe()
	if err != nil {
		return c
	}
	c = c.Resolve().windows()
	if d.Of != "" {
		c.Kind = d.Of
	}
	if !slices.Contains(d.Keys, "bias") {
		c.Bias = ""
	}
	if !slices.Contains(d.Keys, "latent_dim") {
		c.LatentDim = 0
	}
	if !slices.Contains(d.Keys, "query_latent_dim") {
		c.QueryLatentDim = 0
	}
	if !slices.Contains(d.Keys, "qk_norm") {
		c.QKNorm = ""
	}
	if !slices.Contains(d.Keys, "latents") {
		c.Latents = 0
	}
	if !slices.Contains(d.Keys, "tie_kv") {
		c.TieKV = false
	}
	if c.ScaleDim == float64(c.HeadDim) || !slices.Contains(d.Keys, "scale_dim") {
		c.ScaleDim = 0
	}
	if !slices.Contains(d.Keys, "kv_rank") {
		c.QueryRank, c.KVRank = 0, 0
	}
	if !d.Split {
		c.QueryNorm = ""
	}
	return c
}

// Special is the way back: GQA of as many groups as heads as MHA.
func (c Config) Special() Config {
	for _, d := range Descriptions {
		special := c
		special.Kind = d.Kind
		if d.Of == c.Kind && special.Resolve().Groups == c.Groups {
			return special
		}
	}
	return c
}

// settings gives dimensions their values, and remembers by which rules.
type settings struct {
	*Config
	laws map[string]string
}

// is sets what has no other value in a kind.
func (s settings) is(key string, p *int, v int, law string) {
	if *p != v {
		*p, s.laws[key] = v, law
	}
}

// open sets what the configuration leaves open.
func (s settings) open(key string, p *int, v int, law string) {
	if *p == 0 {
		s.is(key, p, v, law)
	}
}
