package export

import (
	"cmp"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"headroom/attention"
	"headroom/model"
)

// Own is the class of modeling_headroom.py, which goes along.
const Own Class = "HeadroomForCausalLM"

// code are the Python files of an export whose class is Own.
var code = []string{"modeling_headroom.py", "configuration_headroom.py"}

//go:embed modeling_headroom.py configuration_headroom.py
var modeling embed.FS

// copyCode puts modeling_headroom.py and its configuration beside the weights.
func copyCode(dir string) error {
	for _, name := range code {
		text, err := modeling.ReadFile(name)
		if err != nil {
			panic(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// refuseOwn says that modeling_headroom.py has no layer for a kind.
func refuseOwn(k attention.Kind) error {
	d, err := k.Describe()
	if err == nil && !d.Exported() {
		err = fmt.Errorf("export: %s attention has no layer in modeling_headroom.py, so it cannot be exported yet", k)
	}
	return err
}

// ownKeys are those of configuration_headroom.py that no other class has.
type ownKeys struct {
	Kind            string      `json:"kind"`
	RopeDim         int         `json:"rope_dim"`
	Latents         int         `json:"latents"`
	LatentDim       int         `json:"latent_dim"`
	QueryLatentDim  int         `json:"query_latent_dim"`
	QueryRank       int         `json:"query_rank"`
	KVRank          int         `json:"kv_rank"`
	SplitQuery      bool        `json:"split_query"`
	QueryNorm       string      `json:"query_norm"`
	Bias            bool        `json:"low_rank_bias"`
	QKNorm          string      `json:"qk_norm"`
	TieKV           bool        `json:"tie_kv"`
	ScaleDim        float64     `json:"scale_dim"`
	Gate            string      `json:"gate"`
	GateWidth       int         `json:"gate_width"`
	Norm            string      `json:"norm"`
	MLPActivation   string      `json:"activation"`
	EmbedScale      bool        `json:"embed_scale"`
	Scaled          *scaledRope `json:"scaled_rope"`
	WindowRopeTheta float64     `json:"window_rope_theta"`
}

// A scaledRope is attention.RopeScaling in config.json. The library has a meaning of its own for the key rope_scaling.
type scaledRope struct {
	Factor  decimal `json:"factor"`
	Low     decimal `json:"low_freq_factor"`
	High    decimal `json:"high_freq_factor"`
	Context int     `json:"original_context"`
}

// ownConfig adds what configuration_headroom.py reads. Of switches that a model does not have it says nothing, so that
// a file is what it was before there was the switch.
func ownConfig(j map[string]any, m model.Config, a attention.Config) error {
	d, err := a.Kind.Describe()
	if err != nil {
		return err
	}
	j["model_type"], j["kind"], j["num_key_value_heads"], j["rope_dim"] = "headroom", d.Family, a.Groups, a.RopeDim
	j["auto_map"] = map[string]string{
		"AutoConfig":           "configuration_headroom.HeadroomConfig",
		"AutoModel":            "modeling_headroom.HeadroomModel",
		"AutoModelForCausalLM": "modeling_headroom.HeadroomForCausalLM",
	}
	delete(j, "attention_bias")
	delete(j, "hidden_act")
	if d.Cache == attention.Latent {
		j["split_query"], j["low_rank_bias"] = d.Split, false
	}
	set := func(key string, there bool, value any) {
		if there {
			j[key] = value
		}
	}
	for _, key := range d.Keys {
		switch key {
		case "bias":
			j["low_rank_bias"] = a.Bias == "paper"
		case "latents":
			j[key] = a.Latents
		case "latent_dim":
			j[key] = a.LatentDim
		case "query_latent_dim":
			j[key] = a.QueryLatentDim
		case "query_rank":
			j[key] = a.QueryRank
		case "kv_rank":
			j[key] = a.KVRank
		case "query_norm":
			j[key] = a.QueryNorm
		case "qk_norm":
			set(key, a.NormsQK(), a.QKNorm)
		case "tie_kv":
			set(key, a.TieKV, true)
		case "scale_dim":
			set(key, a.ScaleDim != 0, decimal(a.ScaleDim))
		default:
			return fmt.Errorf("export: configuration_headroom.py has no key for %s of %s attention", key, a.Kind)
		}
	}
	set("gate", a.Gated(), a.Gate)
	set("gate_width", a.GateWidth > 0, a.GateWidth)
	set("norm", m.Norm != model.PreNorm, m.Norm)
	set("activation", m.Activation != model.SiLU, m.Activation)
	set("embed_scale", m.EmbedScale, true)
	if s := a.RopeScaling; s != (attention.RopeScaling{}) {
		j["scaled_rope"] = scaledRope{decimal(s.Factor), decimal(s.LowFreqFactor), decimal(s.HighFreqFactor),
			s.OriginalContext}
	}
	set("sliding_window", a.Window > 0, a.Window)
	set("layer_types", a.Window > 0, layerTypes(m.Layers, a))
	set("window_rope_theta", a.WindowRopeTheta != 0, decimal(a.WindowRopeTheta))
	return nil
}

// own reads what ownConfig wrote, also where an older version of this program did.
func (f foreign) own(m *model.Config, a *attention.Config) error {
	a.RopeDim, a.Latents, a.LatentDim, a.QueryLatentDim = f.RopeDim, f.Latents, f.LatentDim, f.QueryLatentDim
	a.QueryRank, a.KVRank, a.QKNorm, a.TieKV, a.ScaleDim = f.QueryRank, f.KVRank, f.QKNorm, f.TieKV, f.ScaleDim
	a.Gate, a.GateWidth = f.Gate, f.GateWidth
	m.Norm, m.Activation, m.EmbedScale = f.Norm, f.MLPActivation, f.EmbedScale
	if f.Bias {
		a.Bias = "paper"
	}
	if s := f.Scaled; s != nil {
		a.RopeScaling = attention.RopeScaling{Factor: float64(s.Factor), LowFreqFactor: float64(s.Low),
			HighFreqFactor: float64(s.High), OriginalContext: s.Context}
	}
	if f.Window.keys != nil {
		a.Window, a.Pattern = windows(f.AttentionTypes, *f.Window.keys)
		switch {
		case a.Window == 0 || f.WindowRopeTheta == 0:
		case a.Pattern == "":
			a.RopeTheta, a.RopeScaling = f.WindowRopeTheta, attention.RopeScaling{}
		default:
			a.WindowRopeTheta = f.WindowRopeTheta
		}
	}
	var families []string
	for _, d := range attention.Descriptions {
		if !d.Exported() {
			continue
		}
		if d.Family == f.Kind && d.Of == "" && d.Split == f.SplitQuery {
			if a.Kind = d.Kind; d.Split {
				a.QueryNorm = cmp.Or(f.QueryNorm, attention.WholeNorm) // older exports do not say
			}
			return nil
		}
		if !slices.Contains(families, d.Family) {
			families = append(families, d.Family)
		}
	}
	return fmt.Errorf("kind is one of %s, not %q", strings.Join(families, ", "), f.Kind)
}

// refuseOwnLayers names what is wrong with windows.
func (f foreign) refuseOwnLayers() error {
	if f.Window.keys == nil && f.AttentionTypes == nil {
		return nil
	}
	if f.Window.keys == nil || *f.Window.keys < 1 {
		return fmt.Errorf("sliding_window must be positive where there are layer_types")
	}
	return f.refuseLayers(f.AttentionTypes)
}
