// Package export turns checkpoints into those of other programs and back: Hugging Face directories of safetensors, and
// GGUF files. Weights are read, and files written, one tensor at a time.
//
// A model goes out as the standard class that is exactly the same function, where there is one: LlamaForCausalLM for
// MHA, MQA and GQA, Qwen3ForCausalLM where these norm each head of queries and keys, Olmo2ForCausalLM where they norm
// all of them together and the block behind attention and MLP, Gemma3ForCausalLM where a model has all that Gemma 3
// has, DeepseekV3ForCausalLM for MLA without biases. The other kinds go out with a small PyTorch module of their own,
// whose cache holds what the paper says.
package export

import (
	"embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
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
	Own      Class = "HeadroomForCausalLM" // of modeling_headroom.py, which goes along
)

// code are the Python files of an export whose class is Own.
var code = []string{"modeling_headroom.py", "configuration_headroom.py"}

// deepseekEps is the epsilon of DeepseekV3ForCausalLM's norms of latents, which no key of its configuration changes.
const deepseekEps = 1e-6

//go:embed modeling_headroom.py configuration_headroom.py
var modeling embed.FS

// unsaid is an error where a key of attention is one that no class of an export has.
func unsaid(a attention.Config) error {
	if a.TieKV {
		return errors.New("export: attention.tie_kv is true, and neither the classes nor the files that are written here " +
			"have values that are unrotated keys")
	}
	return nil
}

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

// refuse says what a class cannot compute of a model whose class it is. Of all but Own, ClassOf has seen to that.
func (c Class) refuse(t *model.Transformer) error {
	if c != Own {
		return nil
	}
	return refuseOwn(t.Config, t.Attention)
}

// refuseOwn says what modeling_headroom.py has no layer for.
func refuseOwn(m model.Config, a attention.Config) error {
	d, err := a.Kind.Describe()
	switch {
	case err != nil:
		return err
	case a.Window > 0:
		return fmt.Errorf("export: attention.window is %d, and modeling_headroom.py has no windows: %s is what has one, "+
			"in all layers of MHA, GQA or MQA, without a pattern", a.Window, Mistral)
	case !d.Exported():
		return fmt.Errorf("export: %s attention has no layer in modeling_headroom.py, so it cannot be exported yet", a.Kind)
	case gemmaOnly(m) != "":
		return fmt.Errorf("export: %s attention in a model with %s is not in modeling_headroom.py, so it cannot be exported "+
			"yet", a.Kind, gemmaOnly(m))
	case m.Norm != model.PreNorm:
		return fmt.Errorf("export: %s attention between norms as of model.norm: %s is not in modeling_headroom.py, so it "+
			"cannot be exported yet", a.Kind, m.Norm)
	case a.Gated():
		return fmt.Errorf("export: an output gate (attention.gate: %s) has no layer in modeling_headroom.py, so it cannot "+
			"be exported yet", a.Gate)
	case a.ScaleDim != 0:
		return fmt.Errorf("export: %s attention with another softmax scale (attention.scale_dim: %v) is not in "+
			"modeling_headroom.py, so it cannot be exported yet", a.Kind, a.ScaleDim)
	case a.RopeScaling != attention.RopeScaling{}:
		return fmt.Errorf("export: %s attention with a scaled rotary embedding (attention.rope_scaling) has no layer in "+
			"modeling_headroom.py, so it cannot be exported yet", a.Kind)
	case a.NormsQK():
		return fmt.Errorf("export: %s attention with norms of queries and keys (attention.qk_norm: %s) has no layer in "+
			"modeling_headroom.py, so it cannot be exported", a.Kind, a.QKNorm)
	}
	return nil
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
		qwen3Config(j, m)
		rope(j, a)
	case DeepSeek:
		j["model_type"], j["num_key_value_heads"] = "deepseek_v3", a.Heads
		j["q_lora_rank"], j["kv_lora_rank"] = a.QueryLatentDim, a.LatentDim
		j["qk_nope_head_dim"], j["qk_rope_head_dim"], j["v_head_dim"] = a.HeadDim, a.RopeDim, a.HeadDim
		j["rope_interleave"], j["first_k_dense_replace"] = true, m.Layers
		rope(j, a)
		delete(j, "head_dim") // the library's is that of the rotary part
	case Own:
		return j, ownConfig(j, a)
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

// ownConfig adds what configuration_headroom.py reads.
func ownConfig(j map[string]any, a attention.Config) error {
	j["model_type"], j["num_key_value_heads"], j["rope_dim"] = "headroom", a.Groups, a.RopeDim
	j["auto_map"] = map[string]string{
		"AutoConfig":           "configuration_headroom.HeadroomConfig",
		"AutoModel":            "modeling_headroom.HeadroomModel",
		"AutoModelForCausalLM": "modeling_headroom.HeadroomForCausalLM",
	}
	delete(j, "attention_bias")
	delete(j, "hidden_act")
	d, err := a.Kind.Describe()
	if err != nil {
		return err
	}
	j["kind"] = d.Family
	if d.Cache == attention.Latent {
		j["split_query"] = d.Split
	}
	for _, key := range d.Keys {
		switch key {
		case "bias":
			j["low_rank_bias"] = a.Bias == "paper"
		case "latent_dim":
			j[key] = a.LatentDim
		case "query_latent_dim":
			j[key] = a.QueryLatentDim
		case "query_norm":
			j[key] = a.QueryNorm
		case "qk_norm", "tie_kv", "scale_dim": // which unsaid and refuseOwn refuse
		default:
			return fmt.Errorf("export: configuration_headroom.py has no key for %s of %s attention", key, a.Kind)
		}
	}
	return nil
}

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
