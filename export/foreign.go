package export

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"headroom/attention"
	"headroom/model"
)

// foreign is a config.json of the transformers library, as far as it decides what a model computes.
type foreign struct {
	Architectures []string `json:"architectures"`
	Vocab         int      `json:"vocab_size"`
	Width         int      `json:"hidden_size"`
	MLP           int      `json:"intermediate_size"`
	Layers        int      `json:"num_hidden_layers"`
	Heads         int      `json:"num_attention_heads"`
	Groups        int      `json:"num_key_value_heads"`
	HeadDim       int      `json:"head_dim"`
	Context       int      `json:"max_position_embeddings"`
	Eps           *float64 `json:"rms_norm_eps"`
	Std           float64  `json:"initializer_range"`
	Tie           *bool    `json:"tie_word_embeddings"`
	Act           string   `json:"hidden_act"`

	Theta   float64        `json:"rope_theta"`
	Rope    map[string]any `json:"rope_parameters"`
	Scaling map[string]any `json:"rope_scaling"`
	Partial float64        `json:"partial_rotary_factor"`

	AttentionBias bool          `json:"attention_bias"`
	MLPBias       bool          `json:"mlp_bias"`
	Window        slidingWindow `json:"sliding_window"`
	Quantised     any           `json:"quantization_config"`
	PerLayer      any           `json:"per_layer_config"`

	UseWindow      bool     `json:"use_sliding_window"` // Qwen3, from here
	WindowFrom     *int     `json:"max_window_layers"`
	AttentionTypes []string `json:"layer_types"`

	Activation    *string  `json:"hidden_activation"` // Gemma 3, from here
	LocalTheta    float64  `json:"rope_local_base_freq"`
	Every         int      `json:"sliding_window_pattern"`
	EveryNow      int      `json:"_sliding_window_pattern"`
	Scalar        *float64 `json:"query_pre_attn_scalar"`
	SoftScores    *float64 `json:"attn_logit_softcapping"`
	SoftLogits    *float64 `json:"final_logit_softcapping"`
	Bidirectional bool     `json:"use_bidirectional_attention"`

	QueryLatent int      `json:"q_lora_rank"` // DeepSeek, from here
	Latent      int      `json:"kv_lora_rank"`
	Plain       int      `json:"qk_nope_head_dim"`
	Rotary      int      `json:"qk_rope_head_dim"`
	Value       int      `json:"v_head_dim"`
	Interleave  *bool    `json:"rope_interleave"`
	Dense       int      `json:"first_k_dense_replace"`
	LayerTypes  []string `json:"mlp_layer_types"`

	ownKeys
}

// class is the first of the architectures that can be read.
func (f foreign) class() (Class, error) {
	for _, a := range f.Architectures {
		switch a {
		case string(Mistral): // the same function as Llama, but for a window that some have
			if f.Window.mistral() != 0 || f.Window.keys != nil {
				return Mistral, nil
			}
			return Llama, nil
		case string(Llama):
			return Llama, nil
		case string(Qwen3), string(Olmo2), string(Gemma3), string(DeepSeek), string(Own):
			return Class(a), nil
		}
	}
	return "", fmt.Errorf("architectures %s cannot be read: only %s, %s, %s, %s, %s, %s and %s",
		strings.Join(f.Architectures, ", "), Llama, Mistral, Qwen3, Olmo2, Gemma3, DeepSeek, Own)
}

// model is the configuration of ours that computes the same, or the first thing that ours cannot express.
func (f foreign) model() (c Class, m model.Config, a attention.Config, err error) {
	if c, err = f.class(); err != nil {
		return c, m, a, err
	}
	if err = f.refuse(c); err != nil {
		return c, m, a, err
	}
	m = model.Config{Layers: f.Layers, Width: f.Width, MLP: f.MLP, Vocab: f.Vocab, Context: f.Context, NormEps: f.eps(c),
		Tie: f.tie(c), InitStd: f.Std}
	if !(m.InitStd > 0 && m.InitStd < 10) {
		m.InitStd = model.Default().InitStd
	}
	a = attention.Config{Kind: attention.GQA, Heads: f.Heads, Groups: f.Groups, HeadDim: f.HeadDim, Bias: "none",
		RopeTheta: f.theta(), RopeScaling: f.scaling()}
	switch c {
	case Mistral:
		a.Window = f.Window.mistral()
	case Gemma3:
		f.gemma(&m, &a)
	case Olmo2:
		m.Norm, a.QKNorm = model.PostNorm, attention.AllNorm
	case Qwen3:
		a.QKNorm, a.HeadDim = attention.HeadNorm, cmp.Or(f.HeadDim, 128) // which is 128 where nothing is said
		a.Window, a.Pattern = windows(f.qwen3Types(), f.qwen3Window())
	case DeepSeek:
		a.Kind, a.Groups, a.HeadDim = attention.MLA, 1, f.Plain
		a.RopeDim, a.LatentDim, a.QueryLatentDim = f.Rotary, f.Latent, f.QueryLatent
		return c, m, a, nil
	case Own:
		if err = f.own(&m, &a); err != nil {
			return c, m, a, err
		}
	}
	if a.Groups == 0 {
		a.Groups = a.Heads
	}
	if a.HeadDim == 0 {
		a.HeadDim = f.Width / f.Heads
	}
	return c, m, a.Special(), nil
}

// eps is the epsilon of norms; where nothing is said it is that of the class.
func (f foreign) eps(c Class) float64 {
	switch {
	case f.Eps != nil:
		return *f.Eps
	case c == Own || c == Olmo2:
		return 1e-5
	}
	return 1e-6
}

// tie says that the embedding is the head too; where nothing is said it is so in Gemma 3 alone.
func (f foreign) tie(c Class) bool {
	if f.Tie == nil {
		return c == Gemma3
	}
	return *f.Tie
}

// theta is the base of the rotary frequencies; 10,000 where nothing is said, as in the library.
func (f foreign) theta() float64 {
	if v, ok := f.Rope["rope_theta"].(float64); ok {
		return v
	}
	if f.Theta != 0 {
		return f.Theta
	}
	return 10000
}

// llama3 is the type of rope scaling that can be read: of LlamaForCausalLM, in the library's words.
const llama3 = "llama3"

// scaled is where a rope scaling stands: rope_parameters since version 5 of the library, rope_scaling before.
func (f foreign) scaled() map[string]any {
	if t, _ := first(f.Rope); t == llama3 {
		return f.Rope
	}
	return f.Scaling
}

// scaling is Llama 3.1's, where the rotary embedding is scaled so.
func (f foreign) scaling() (s attention.RopeScaling) {
	if t, _ := first(f.Rope, f.Scaling); t != llama3 {
		return s
	}
	m := f.scaled()
	s.Factor, _ = m["factor"].(float64)
	s.LowFreqFactor, _ = m["low_freq_factor"].(float64)
	s.HighFreqFactor, _ = m["high_freq_factor"].(float64)
	context, _ := m["original_max_position_embeddings"].(float64)
	s.OriginalContext = int(context)
	return s
}

// refuseRope names the first thing about rotary embeddings that cannot be read.
func (f foreign) refuseRope(c Class) error {
	kind, is := first(f.Rope, f.Scaling)
	older, both := first(f.Scaling)
	partial, isPartial := f.Rope["partial_rotary_factor"].(float64)
	switch {
	case f.Partial != 0 && f.Partial != 1, isPartial && partial != 1:
		return fmt.Errorf("a partial rotation of heads (partial_rotary_factor) is not known here")
	case !is || kind == "default" && (!both || older == kind):
		return nil
	case both && older != kind:
		return fmt.Errorf("rope_parameters is of type %s and rope_scaling of type %s: they must be of one", kind, older)
	case kind != llama3 || !slices.Contains([]Class{Llama, Qwen3, Olmo2}, c):
		return fmt.Errorf("rope scaling of type %s (rope_scaling) is not known here: only %s of %s, %s and %s is", kind,
			llama3, Llama, Qwen3, Olmo2)
	}
	for _, key := range []string{"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"} {
		if v, ok := f.scaled()[key].(float64); !ok || !(v > 0 && v <= 1<<30) {
			return fmt.Errorf("rope_scaling of type %s must have a positive %s, it is %v", llama3, key, f.scaled()[key])
		}
	}
	return nil
}

// refuse names the first thing that the models here cannot express.
func (f foreign) refuse(c Class) error {
	for name, n := range map[string]int{"hidden_size": f.Width, "intermediate_size": f.MLP, "num_hidden_layers": f.Layers,
		"num_attention_heads": f.Heads, "vocab_size": f.Vocab, "max_position_embeddings": f.Context} {
		if n < 1 {
			return fmt.Errorf("%s must be positive, it is %d", name, n)
		}
	}
	for _, n := range []int{f.Width, f.MLP, f.Layers, f.Heads, f.Groups, f.HeadDim, f.QueryLatent, f.Latent, f.Plain,
		f.Rotary, f.Value, f.RopeDim, f.Latents, f.LatentDim, f.QueryLatentDim, f.QueryRank, f.KVRank, f.GateWidth,
		f.Vocab / 64, f.Context / 4096} {
		if n < 0 || n > 1<<20 {
			return fmt.Errorf("a dimension of %d is not possible", n)
		}
	}
	if c == Gemma3 {
		if err := f.refuseGemma3(); err != nil {
			return err
		}
	} else if err := f.refuseRope(c); err != nil {
		return err
	}
	switch {
	case c != Gemma3 && f.Act != "silu" && f.Act != "" && f.Act != "swish":
		return fmt.Errorf("hidden_act is %s, the models here have silu", f.Act)
	case f.PerLayer != nil:
		return fmt.Errorf("layers that are configured apart (per_layer_config) are not known here")
	case f.Quantised != nil:
		return fmt.Errorf("the weights are quantised (quantization_config)")
	case f.Window.keys != nil && !slices.Contains([]Class{Qwen3, Mistral, Gemma3, Own}, c):
		return fmt.Errorf("a sliding window (of %d) is not known here", *f.Window.keys)
	case f.AttentionBias || f.MLPBias:
		return fmt.Errorf("biases (attention_bias or mlp_bias) are not those of the models here")
	case c == Mistral:
		return f.refuseMistral()
	case c == Qwen3:
		return f.refuseQwen3()
	case c == DeepSeek:
		return f.refuseDeepSeek()
	case c == Own:
		return f.refuseOwnLayers()
	}
	return nil
}

func (f foreign) refuseDeepSeek() error {
	switch {
	case f.Dense < f.Layers || slices.Contains(f.LayerTypes, "sparse"):
		return fmt.Errorf("a mixture of experts (first_k_dense_replace is %d of %d layers) is not known here",
			f.Dense, f.Layers)
	case f.QueryLatent == 0:
		return fmt.Errorf("queries without a latent (q_lora_rank is null) are not known here")
	case f.Plain != f.Value:
		return fmt.Errorf("keys and values of unlike width (qk_nope_head_dim %d, v_head_dim %d) are not known here",
			f.Plain, f.Value)
	case f.Groups != 0 && f.Groups != f.Heads:
		return fmt.Errorf("num_key_value_heads must be num_attention_heads in %s, they are %d and %d",
			DeepSeek, f.Groups, f.Heads)
	case f.eps(DeepSeek) != deepseekEps:
		return fmt.Errorf("rms_norm_eps is %v, but %s norms latents with %v, and the models here have one epsilon",
			f.eps(DeepSeek), DeepSeek, deepseekEps)
	}
	return nil
}

// first is the type of rotary positions that either of two maps names. A map of maps, by layer type, has none that is
// known.
func first(maps ...map[string]any) (string, bool) {
	for _, m := range maps {
		for _, key := range []string{"rope_type", "type"} {
			if v, ok := m[key].(string); ok {
				return v, true
			}
		}
		for key, v := range m {
			if _, nested := v.(map[string]any); nested {
				return "by layer: " + key, true
			}
		}
		if _, scaled := m["factor"]; scaled {
			return "factor", true
		}
	}
	return "", false
}
