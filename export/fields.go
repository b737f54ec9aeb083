package export

import (
	"reflect"
	"slices"
)

// idle are the keys of config.json that are not read, since they do not change what a model computes: what begins and
// ends a text is read elsewhere, and of DeepSeek-V3 the experts that no layer has.
var idle = []string{
	"_attn_implementation", "_name_or_path", "attention_dropout", "auto_map", "bos_token_id", "cache_implementation",
	"dtype", "eos_token_id", "model_type", "pad_token_id", "pretraining_tp", "tokenizer_class", "torch_dtype",
	"transformers_version", "unsloth_fixed", "use_cache",

	"aux_loss_alpha", "ep_size", "moe_intermediate_size", "moe_layer_freq", "n_group", "n_routed_experts",
	"n_shared_experts", "norm_topk_prob", "num_experts_per_tok", "num_nextn_predict_layers", "qk_head_dim",
	"routed_scaling_factor", "scoring_func", "seq_aux", "topk_group", "topk_method",
}

// unknown are the keys of a config.json of a class that say something and that nobody here knows.
func unknown(c Class, config map[string]any) (keys []string) {
	known := slices.Clone(idle)
	for _, f := range reflect.VisibleFields(reflect.TypeFor[foreign]()) {
		if key := f.Tag.Get("json"); key != "" && (c == Own || len(f.Index) == 1) {
			known = append(known, key)
		}
	}
	for key, value := range config {
		v := reflect.ValueOf(value)
		said := v.IsValid() && !v.IsZero() && (v.Kind() != reflect.Slice && v.Kind() != reflect.Map || v.Len() > 0)
		if said && !slices.Contains(known, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
