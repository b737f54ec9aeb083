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
	MHA  Kind = "mha"
	MQA  Kind = "mqa"
	GQA  Kind = "gqa"
	GTA  Kind = "gta"
	MLA  Kind = "mla"
	GLA  Kind = "gla"
	GLAQ Kind = "gla_q" // GLA whose query latent is split over the latent heads too
)

// A Description is what the rest of the program asks of a kind, beside its layer.
type Description struct {
	Kind    Kind
	Grouped bool   // its name ends in the number of its key/value or latent heads, as in gqa-4
	Latent  bool   // it caches latents, against which decoding multiplies absorbed queries
	Tied    bool   // key and value are one state in the cache
	Family  string // its layer in modeling_headroom.py, by the name in config.json
	layer   func(c Config, p Place, w weights, out graph.Param) Layer
}

// Descriptions are those of all kinds, from the largest cache to the smallest at equal heads. A kind is a file of this
// package and an entry here.
var Descriptions = []Description{
	{Kind: MHA, Family: "gqa", layer: gqaLayer},
	{Kind: GQA, Grouped: true, Family: "gqa", layer: gqaLayer},
	{Kind: MQA, Family: "gqa", layer: gqaLayer},
	{Kind: GTA, Grouped: true, Tied: true, Family: "gta", layer: gtaLayer},
	{Kind: GLA, Grouped: true, Latent: true, Tied: true, Family: "latent", layer: latentLayer},
	{Kind: GLAQ, Grouped: true, Latent: true, Tied: true, Family: "latent", layer: latentLayer},
	{Kind: MLA, Latent: true, Tied: true, Family: "latent", layer: latentLayer},
}

func gqaLayer(c Config, p Place, w weights, out graph.Param) Layer { return newGQA(c, p.Width, w, out) }
func gtaLayer(c Config, p Place, w weights, out graph.Param) Layer { return newGTA(c, p.Width, w, out) }
func latentLayer(c Config, p Place, w weights, out graph.Param) Layer {
	return newLatent(c, p.Width, p.NormEps, w, out)
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
		return Description{}, fmt.Errorf("attention: kind %q is none of %s", k, strings.Join(names(Kinds), ", "))
	}
	return Descriptions[i], nil
}

func names(kinds []Kind) (all []string) {
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
