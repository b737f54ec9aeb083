package export

import (
	"cmp"
	"fmt"
	"slices"

	"headroom/attention"
	"headroom/model"
)

// Gemma3 is the class of Gemma 3's text models: norms before and behind attention and MLP, whose weights are one less
// than ours, norms of each head of queries and keys, GELU in the MLP, scaled embeddings, and windows with a base of
// their own in most layers.
const Gemma3 Class = "Gemma3ForCausalLM"

// gemmaClass is the class of a model that has a key that only Gemma has, or why it is none.
func gemmaClass(m model.Config, a attention.Config) (c Class, reason string) {
	switch {
	case m.Norm != model.BothNorms || m.Activation != model.GELUTanh || !m.EmbedScale || a.QKNorm != attention.HeadNorm:
		return Own, fmt.Sprintf("%s has model.norm both, activation gelu_tanh, embed_scale true and attention.qk_norm head, "+
			"this model %s, %s, %v and %s", Gemma3, m.Norm, m.Activation, m.EmbedScale, a.QKNorm)
	case a.RopeDim != a.HeadDim:
		return Own, fmt.Sprintf("%s rotates whole heads of %d, this model %d columns of them", Gemma3, a.HeadDim, a.RopeDim)
	case a.RopeScaling != attention.RopeScaling{}:
		return Own, fmt.Sprintf("%s is not written with a scaled rotary embedding (attention.rope_scaling)", Gemma3)
	}
	return Gemma3, ""
}

// gemmaThetas are the bases by which full layers and window layers rotate.
func gemmaThetas(layers int, a attention.Config) (full, window float64) {
	for i := range layers {
		if at := a.Layer(i); at.Window > 0 {
			window = at.RopeTheta
		} else {
			full = at.RopeTheta
		}
	}
	return cmp.Or(full, window), cmp.Or(window, full)
}

// gemmaConfig adds what its configuration has beside Llama's.
func gemmaConfig(j map[string]any, m model.Config, a attention.Config) {
	full, window := gemmaThetas(m.Layers, a)
	base := func(theta float64) map[string]any {
		return map[string]any{"rope_type": "default", "rope_theta": decimal(theta)}
	}
	j["model_type"], j["num_key_value_heads"], j["layer_types"] = "gemma3_text", a.Groups, layerTypes(m.Layers, a)
	j["hidden_activation"], j["query_pre_attn_scalar"] = "gelu_pytorch_tanh", cmp.Or(a.ScaleDim, float64(a.HeadDim))
	j["sliding_window"] = cmp.Or(a.Window, gemmaWindow)
	j["rope_parameters"] = map[string]any{fullAttention: base(full), slidingAttention: base(window)}
	j["rope_theta"], j["rope_local_base_freq"] = decimal(full), decimal(window) // of version 4 of the library
	j["attn_logit_softcapping"], j["final_logit_softcapping"], j["use_bidirectional_attention"] = nil, nil, false
	delete(j, "hidden_act")
}

// What Gemma3TextConfig takes where config.json says nothing.
const (
	gemmaHeadDim, gemmaGroups, gemmaWindow, gemmaPattern = 256, 4, 4096, 6
	gemmaTheta, gemmaLocalTheta                          = 1e6, 1e4
)

// gemma reads what its configuration has beside Llama's.
func (f foreign) gemma(m *model.Config, a *attention.Config) {
	m.Norm, m.Activation, m.EmbedScale = model.BothNorms, model.GELUTanh, true
	a.QKNorm = attention.HeadNorm
	a.HeadDim, a.Groups = cmp.Or(f.HeadDim, gemmaHeadDim), cmp.Or(f.Groups, gemmaGroups)
	if a.ScaleDim = f.gemmaScalar(); a.ScaleDim == float64(a.HeadDim) {
		a.ScaleDim = 0
	}
	a.RopeTheta = f.gemmaTheta(fullAttention, f.Theta, gemmaTheta)
	local := f.gemmaTheta(slidingAttention, f.LocalTheta, gemmaLocalTheta)
	switch a.Window, a.Pattern = windows(f.gemmaTypes(), f.gemmaWindow()); {
	case a.Window == 0:
	case a.Pattern == "":
		a.RopeTheta = local
	default:
		a.WindowRopeTheta = local
	}
}

// gemmaScalar is what scores are divided by the root of.
func (f foreign) gemmaScalar() float64 {
	if f.Scalar != nil {
		return *f.Scalar
	}
	return 256
}

// gemmaTypes are the kinds of its layers: those that it names, or a full one after each sliding_window_pattern-1
// others.
func (f foreign) gemmaTypes() (kinds []string) {
	if len(f.AttentionTypes) > 0 {
		return f.AttentionTypes
	}
	every := cmp.Or(f.Every, f.EveryNow, gemmaPattern)
	for i := range f.Layers {
		kind := slidingAttention
		if (i+1)%every == 0 {
			kind = fullAttention
		}
		kinds = append(kinds, kind)
	}
	return kinds
}

func (f foreign) gemmaWindow() int {
	if f.Window.keys == nil {
		return gemmaWindow
	}
	return *f.Window.keys
}

// gemmaTheta is the base of a kind of layers: of version 5 of the library, of version 4, or the usual one.
func (f foreign) gemmaTheta(kind string, older, usual float64) float64 {
	of, _ := f.Rope[kind].(map[string]any)
	now, _ := of["rope_theta"].(float64)
	return cmp.Or(now, older, usual)
}

// refuseGemma3 names the first thing that the models here cannot express.
func (f foreign) refuseGemma3() error {
	for kind, v := range f.Rope {
		of, _ := v.(map[string]any)
		t, said := first(of)
		if kind != fullAttention && kind != slidingAttention || said && t != "default" {
			return fmt.Errorf("rope_parameters of %s (%s) are not known here of %s: only those of type default are, by layer "+
				"type", kind, cmp.Or(t, fmt.Sprint(v)), Gemma3)
		}
	}
	if t, said := first(f.Scaling); said && t != "default" {
		return fmt.Errorf("rope scaling of type %s (rope_scaling) is not known here of %s", t, Gemma3)
	}
	types := f.gemmaTypes()
	if err := f.refuseLayers(types); err != nil {
		return err
	}
	scalar := f.gemmaScalar()
	switch {
	case f.Activation != nil && *f.Activation != "gelu_pytorch_tanh":
		return fmt.Errorf("hidden_activation is %s, only gelu_pytorch_tanh is known here of %s", *f.Activation, Gemma3)
	case slices.Contains(types, slidingAttention) && (f.Window.said && f.Window.keys == nil || f.gemmaWindow() < 1):
		return fmt.Errorf("sliding_window must be positive where layers are %s", slidingAttention)
	case !(scalar > 0 && scalar <= 1<<20):
		return fmt.Errorf("query_pre_attn_scalar must be positive, it is %v", scalar)
	case f.SoftScores != nil || f.SoftLogits != nil:
		return fmt.Errorf("capped scores or logits (attn_logit_softcapping, final_logit_softcapping) are not known here")
	case f.Partial != 0 && f.Partial != 1:
		return fmt.Errorf("a partial rotation of heads (partial_rotary_factor) is not known here")
	case f.Bidirectional:
		return fmt.Errorf("attention in both directions (use_bidirectional_attention) is not known here")
	}
	return nil
}

// lessOne are tensors whose norms are one less than ours, which are 1 + w in one place.
func lessOne(list []tensor) []tensor {
	for i := range list {
		if len(list[i].shape) == 1 {
			list[i].less = 1
		}
	}
	return list
}

// gemma3Refused is why llama.cpp's gemma3 is not the same function: it has a full layer after each five with windows,
// which rotate by 10,000.
func gemma3Refused(m model.Config, a attention.Config) string {
	_, window := gemmaThetas(m.Layers, a)
	for i, kind := range layerTypes(m.Layers, a) {
		if (kind == slidingAttention) != (i%gemmaPattern < gemmaPattern-1) {
			return fmt.Sprintf("llama.cpp's gemma3 has five window layers and a full one in turn, this model %s as layer %d "+
				"(attention.pattern)", kind, i)
		}
	}
	switch {
	case window != gemmaLocalTheta:
		return fmt.Sprintf("window layers of llama.cpp's gemma3 rotate by %v, this model's by %v "+
			"(attention.window_rope_theta)", float64(gemmaLocalTheta), window)
	case a.ScaleDim != 0 || m.Layers == 62:
		return "llama.cpp's gemma3 divides scores by the root of head_dim (attention.scale_dim), but for models of 62 layers"
	}
	return ""
}
