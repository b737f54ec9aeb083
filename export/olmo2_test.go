package export

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/model"
)

// TestNormsAreNotLost: norms in any place go out and come back, and a GGUF file has those that llama.cpp knows.
func TestNormsAreNotLost(t *testing.T) {
	known := 0
	for _, place := range []string{model.PreNorm, model.PostNorm, model.BothNorms} {
		for _, norm := range []string{attention.NoNorm, attention.HeadNorm, attention.AllNorm} {
			checkpoint, m := tiny(t, "gqa-2", func(c *model.Config, a *attention.Config) { c.Norm, a.QKNorm = place, norm })
			s := &specimen{Model: m}
			if c, reason := ClassOf(m.Transformer); c != Own {
				known++
				s.goesThereAndBack(t, checkpoint)
			} else {
				s.goesOutAsOwn(t, checkpoint, "model.norm: "+place+", attention.qk_norm: "+norm)
				if !strings.Contains(reason, "no class of the library has its norms so") {
					t.Errorf("norm %s and qk_norm %s: %s", place, norm, reason)
				}
			}
		}
	}
	if known != 3 {
		t.Errorf("%d classes have norms, these are Llama, Qwen3 and OLMo 2", known)
	}
}

// TestOlmo2IsRead: what an OLMo 2 does not say is what the library takes then, and what is not known here is refused.
func TestOlmo2IsRead(t *testing.T) {
	dir := filepath.Join("testdata", "transformers", "olmo2")
	for change, want := range map[string]string{
		`{"attention_bias": true}`:                             "attention_bias",
		`{"hidden_act": "gelu"}`:                               "hidden_act is gelu",
		`{"rope_scaling": {"rope_type": "yarn", "factor": 4}}`: "yarn",
		`{"sliding_window": 16}`:                               "a sliding window (of 16)",
		`{"num_key_value_heads": null}`:                        "k_proj.weight is [16 32]",
		`{"architectures": ["OlmoForCausalLM"]}`:               "OlmoForCausalLM cannot be read",
		`{"architectures": ["Olmo3ForCausalLM"]}`:              "Olmo3ForCausalLM cannot be read",
		`{"architectures": ["LlamaForCausalLM"]}`:              "model.layers.",
	} {
		_, err := Read(changed(t, dir, change), filepath.Join(t.TempDir(), "x"), 0)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
	}
	back := filepath.Join(t.TempDir(), "back")
	if _, err := Read(changed(t, dir, `{"rms_norm_eps": null, "rope_parameters": null}`), back, 0); err != nil {
		t.Fatal(err)
	}
	m, err := decode.Load(back)
	if err != nil || m.Config.NormEps != 1e-5 || m.Attention.RopeTheta != 10000 || m.Config.Norm != model.PostNorm ||
		m.Attention.QKNorm != attention.AllNorm || m.Attention.HeadDim != 8 {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestGGUFOlmo2 finds the norms under the names of llama.cpp's olmo2, and a head also where it is the embedding. What
// that architecture does not compute is refused.
func TestGGUFOlmo2(t *testing.T) {
	checkpoint, _ := tiny(t, "gqa-2", olmo2, tied)
	_, values, places, _ := writtenGGUF(t, checkpoint)
	if values["general.architecture"] != "olmo2" || values["olmo2.attention.head_count_kv"] != uint32(2) {
		t.Errorf("%v", values)
	}
	for name, dims := range map[string][]uint64{
		"attn_q_norm": {32}, "attn_k_norm": {16}, "post_attention_norm": {32}, "post_ffw_norm": {32}, "attn_norm": nil,
		"ffn_norm": nil,
	} {
		if got := places["blk.1."+name+".weight"].dims; !slices.Equal(got, dims) {
			t.Errorf("%s is %v, not %v", name, got, dims)
		}
	}
	if head := places["output.weight"]; !slices.Equal(head.dims, []uint64{32, 260}) {
		t.Errorf("the head is %+v", head)
	}
	refusesGGUF(t, olmo2, map[string]func(*model.Config, *attention.Config){
		"does not scale rotary embeddings (attention.rope_scaling)": scaled,
		"the heads of llama.cpp's olmo2 have as many columns as the model, this one's 64 of 32": func(_ *model.Config,
			a *attention.Config) {
			a.HeadDim = 16
		},
	})
}
