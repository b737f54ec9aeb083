// Package export turns checkpoints into those of other programs and back: Hugging Face directories of safetensors, and
// GGUF files. Weights are read, and files written, one tensor at a time.
//
// A model goes out as the standard class that is exactly the same function, where there is one: LlamaForCausalLM for
// MHA, MQA and GQA, Qwen3ForCausalLM where these norm each head of queries and keys, Olmo2ForCausalLM where they norm
// all of them together and the block behind attention and MLP, Gemma3ForCausalLM where a model has all that Gemma 3
// has, DeepseekV3ForCausalLM for MLA without biases. All other kinds, and these with switches that no such class has,
// go out with a small PyTorch module of their own, whose cache holds what the paper says.
package export

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"headroom/attention"
	"headroom/model"
)

// A Class is a class of the transformers library that a model goes out as.
type Class string

// The classes.
const (
	Llama    Class = "LlamaForCausalLM"
	DeepSeek Class = "DeepseekV3ForCausalLM"
)

// deepseekEps is the epsilon of DeepseekV3ForCausalLM's norms of latents, which no key of its configuration changes.
const deepseekEps = 1e-6

// ClassOf is the class that computes what a model does, and for Own the reason why it is none of the others.
func ClassOf(t *model.Transformer) (c Class, reason string) {
	a := t.Attention.Resolve()
	d, err := a.Kind.Describe()
	if err != nil {
		return Own, err.Error()
	}
	if a.Gated() {
		return Own, fmt.Sprintf("no class that this program writes has an output gate (attention.gate: %s)", a.Gate)
	}
	if a.TieKV {
		return Own, "no class that this program writes has values that are unrotated keys (attention.tie_kv: true)"
	}
	if key := gemmaOnly(t.Config); key != "" && Class(d.Library) != Llama {
		return Own, fmt.Sprintf("no class that this program writes has %s", key)
	}
	switch Class(d.Library) {
	case "":
		return Own, fmt.Sprintf("no class of the library has %s attention", a.Kind)
	case Llama:
		if gemmaOnly(t.Config) != "" {
			return gemmaClass(t.Config, a)
		}
		if a.ScaleDim != 0 {
			return Own, fmt.Sprintf("of the classes that this program writes only %s divides scores by another root than that "+
				"of head_dim (attention.scale_dim: %v)", Gemma3, a.ScaleDim)
		}
		if a.Window > 0 {
			return windowedClass(t.Config, a)
		}
		class, reason := familyOf(t.Config, a)
		if class != Own && a.RopeDim != a.HeadDim {
			return Own, fmt.Sprintf("%s rotates whole heads of %d, this model %d columns of them", class, a.HeadDim, a.RopeDim)
		}
		return class, reason
	case DeepSeek:
		switch {
		case a.Window > 0:
			return Own, fmt.Sprintf("%s has no window (attention.window)", DeepSeek)
		case t.Config.Norm != model.PreNorm:
			return Own, fmt.Sprintf("%s has its norms before attention and MLP (model.norm: %s)", DeepSeek, model.PreNorm)
		case a.Bias != "none":
			return Own, fmt.Sprintf("%s has no biases on its up-projections (attention.bias: none)", DeepSeek)
		case t.Config.NormEps != deepseekEps:
			return Own, fmt.Sprintf("%s norms latents with an epsilon of %v, this model with %v (model.norm_eps)", DeepSeek,
				deepseekEps, t.Config.NormEps)
		case a.RopeScaling != attention.RopeScaling{}:
			return Own, fmt.Sprintf("only %s is written with a scaled rotary embedding (attention.rope_scaling)", Llama)
		}
		return DeepSeek, ""
	}
	return Own, fmt.Sprintf("this program does not write %s, which has %s attention", d.Library, a.Kind)
}

// gemmaOnly is the key of a model that only Gemma has, if there is one.
func gemmaOnly(m model.Config) string {
	switch {
	case m.Activation != model.SiLU:
		return "model.activation: " + m.Activation
	case m.EmbedScale:
		return "model.embed_scale: true"
	}
	return ""
}

// tensors names the model's tensors as a class has them.
func (c Class) tensors(t *model.Transformer) []tensor {
	switch c {
	case Llama, Mistral, Qwen3, Olmo2:
		return llama(t)
	case Gemma3:
		return lessOne(llama(t))
	case DeepSeek:
		return deepseek(t)
	case Own:
		return own(t)
	}
	panic(fmt.Sprintf("export: nobody has named the tensors of class %q", c))
}

// config is the config.json of a model. ids are those of special tokens.
func (c Class) config(t *model.Transformer, dtype string, ids object) (map[string]any, error) {
	m, a := t.Config, t.Attention.Resolve()
	j := map[string]any{
		"architectures": []string{string(c)}, "dtype": dtype, "torch_dtype": dtype,
		"vocab_size": m.Vocab, "hidden_size": m.Width, "intermediate_size": m.MLP, "num_hidden_layers": m.Layers,
		"num_attention_heads": a.Heads, "max_position_embeddings": m.Context, "rms_norm_eps": decimal(m.NormEps),
		"tie_word_embeddings": m.Tie, "initializer_range": decimal(m.InitStd), "use_cache": true, "hidden_act": "silu",
		"rope_theta":     decimal(a.RopeTheta),
		"bos_token_id":   nil,
		"eos_token_id":   nil,
		"pad_token_id":   nil,
		"head_dim":       a.HeadDim,
		"attention_bias": false,
	}
	maps.Copy(j, ids)
	switch c {
	case Llama:
		j["model_type"], j["num_key_value_heads"], j["mlp_bias"] = "llama", a.Groups, false
		rope(j, a)
	case Mistral:
		j["model_type"], j["num_key_value_heads"], j["sliding_window"] = "mistral", a.Groups, a.Window
		rope(j, a)
	case Gemma3:
		gemmaConfig(j, m, a)
	case Olmo2:
		j["model_type"], j["num_key_value_heads"] = "olmo2", a.Groups
		rope(j, a)
	case Qwen3:
		j["num_key_value_heads"] = a.Groups
		qwen3Config(j, m, a)
		rope(j, a)
	case DeepSeek:
		j["model_type"], j["num_key_value_heads"] = "deepseek_v3", a.Heads
		j["q_lora_rank"], j["kv_lora_rank"] = a.QueryLatentDim, a.LatentDim
		j["qk_nope_head_dim"], j["qk_rope_head_dim"], j["v_head_dim"] = a.HeadDim, a.RopeDim, a.HeadDim
		j["rope_interleave"], j["first_k_dense_replace"] = true, m.Layers
		rope(j, a)
		delete(j, "head_dim") // the library's is that of the rotary part
	case Own:
		return j, ownConfig(j, m, a)
	default:
		return nil, fmt.Errorf("export: class %q has no configuration here", c)
	}
	return j, nil
}

// rope adds how queries and keys rotate, under the names of the library's versions 5 and 4.
func rope(j map[string]any, a attention.Config) {
	theta, s := decimal(a.RopeTheta), a.RopeScaling
	if s == (attention.RopeScaling{}) {
		j["rope_parameters"] = map[string]any{"rope_type": "default", "rope_theta": theta}
		return
	}
	scaling := map[string]any{"rope_type": "llama3", "factor": decimal(s.Factor),
		"low_freq_factor": decimal(s.LowFreqFactor), "high_freq_factor": decimal(s.HighFreqFactor),
		"original_max_position_embeddings": s.OriginalContext}
	j["rope_scaling"] = scaling
	parameters := maps.Clone(scaling)
	parameters["rope_theta"] = theta
	j["rope_parameters"] = parameters
}

// decimal is a number that stays a float for a reader that tells them from integers.
type decimal float64

// MarshalJSON writes a whole number with its point.
func (d decimal) MarshalJSON() ([]byte, error) {
	text := strconv.FormatFloat(float64(d), 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return []byte(text), nil
}
