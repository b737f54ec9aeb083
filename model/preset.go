package model

import (
	"fmt"
	"slices"
	"strings"

	"headroom/attention"
)

// A size is one of the paper's, with the MLP width that gives each kind about the same number of parameters.
type size struct {
	name           string
	layers, width  int
	heads, headDim int
	rope           int // of latent kinds
	mlp            map[string]int
}

// sizes is the paper's Tables 7 to 10, and that of the paper of MLRA (arXiv 2603.02188), of which those kinds are here
// that its authors' model has in the same form: their MLA, GLA and GTA scale latents or have no biases. The last four
// are those of TPA's paper (arXiv 2501.06425) as its authors' files configure them, but that norms have weights here.
var sizes = []size{
	{"183m", 12, 768, 12, 64, 32, map[string]int{"mha": 2048, "gqa-4": 2392, "mqa": 2520, "gta-4": 2462,
		"mla": 2128, "gla-2": 2208}},
	{"433m", 24, 1024, 16, 64, 32, map[string]int{"mha": 2736, "gqa-4": 3248, "mqa": 3376, "gta-4": 3320, "mla": 3062,
		"gla-2": 3152, "gla_q-2": 3280}},
	{"876m", 24, 1536, 16, 96, 32, map[string]int{"mha": 4096, "gqa-4": 4864, "mqa": 5056, "gta-4": 4976, "mla": 4640,
		"gla-2": 4768, "gla_q-2": 4936}},
	{"1471m", 24, 2048, 16, 128, 64, map[string]int{"mha": 5464, "gqa-4": 6486, "gta-4": 6638,
		"mla": 6120, "gla-2": 6292}},
	{mlraSize, 24, 3072, 24, 128, 64, map[string]int{"mha": 8192, "gqa-6": 9728, "mqa": 10152, "mlra-2": 10048,
		"mlra-4": 9880}},
	{"124m", 12, 768, 34, 64, 0, map[string]int{"tpa": 2048}},
	{"353m", 24, 1024, 47, 64, 0, map[string]int{"tpa": 2730}},
	{"773m", 36, 1280, 61, 64, 0, map[string]int{"tpa": 3413}},
	{"1550m", 48, 1600, 78, 64, 0, map[string]int{"tpa": 4266}},
}

// paperVocab is that of the tokenizer that the paper uses, and gpt2Vocab GPT-2's, filled up to a multiple of 128.
const (
	paperVocab = 128256
	gpt2Vocab  = 50304
)

// mlraSize is that of MLRA's paper, 2.9B.
const mlraSize = "2873m"

// Presets lists the names that Preset knows: 183m-gla-2 and so on.
func Presets() (names []string) {
	for _, s := range sizes {
		for kind := range s.mlp {
			names = append(names, s.name+"-"+kind)
		}
	}
	slices.Sort(names)
	return names
}

// Preset is one of the papers' models: a size (183m, 433m, 876m, 1471m; 2873m of MLRA; 124m, 353m, 773m and 1550m of
// TPA) and a kind with its number (gqa-4, mla).
func Preset(name, kind string) (Config, attention.Config, error) {
	for _, s := range sizes {
		mlp, ok := s.mlp[kind]
		if s.name != strings.ToLower(name) || !ok {
			continue
		}
		k, groups, err := attention.Parse(kind)
		if err != nil {
			return Config{}, attention.Config{}, err
		}
		d, err := k.Describe()
		a := attention.Default()
		a.Kind, a.Groups, a.Heads, a.HeadDim = k, groups, s.heads, s.headDim
		if d.Cache == attention.Latent {
			a.RopeDim = s.rope
		}
		c := Default()
		c.Layers, c.Width, c.MLP, c.Vocab, c.Context = s.layers, s.width, mlp, paperVocab, 2048
		switch {
		case s.name == mlraSize:
			c.Vocab, c.NormEps = gpt2Vocab, 1e-6
		case k == attention.TPA:
			c.Vocab, c.Context, c.Tie = gpt2Vocab, 1024, true
		}
		return c, a, err
	}
	return Config{}, attention.Config{}, fmt.Errorf("model: the paper has no %s-%s; there are %s", name, kind,
		strings.Join(Presets(), ", "))
}
