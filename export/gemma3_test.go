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

// gemma3 is a model of that class, with the layers and bases that llama.cpp has.
func gemma3(c *model.Config, a *attention.Config) {
	c.Layers, c.Norm, c.Activation, c.EmbedScale, c.NormEps = 6, model.BothNorms, model.GELUTanh, true, 1e-6
	a.QKNorm, a.RopeTheta, a.WindowRopeTheta, a.Window = attention.HeadNorm, 1e6, 1e4, 7
	a.Pattern = attention.PatternOf("window,window,window,window,window,full")
}

// round gives norms values from which one can be taken without rounding, as those of bf16 files mostly are.
func round(m *decode.Model) {
	for _, p := range m.Params() {
		if len(p.Shape) == 1 {
			for i, x := range m.Weights[p.Name] {
				m.Weights[p.Name][i] = float32(int(x*1024)) / 1024
			}
		}
	}
}

// TestGemma3GoesThereAndBack exports and imports models of the class, of every pattern of layers.
func TestGemma3GoesThereAndBack(t *testing.T) {
	for name, change := range map[string]func(*model.Config, *attention.Config){
		"five and one": func(*model.Config, *attention.Config) {},
		"other scale":  func(_ *model.Config, a *attention.Config) { a.ScaleDim = 168 },
		"untied":       func(c *model.Config, _ *attention.Config) { c.Tie = false },
		"one base":     func(_ *model.Config, a *attention.Config) { a.WindowRopeTheta = 0 },
		"full first":   func(_ *model.Config, a *attention.Config) { a.Pattern = attention.PatternOf("full,window") },
		"all windows":  func(_ *model.Config, a *attention.Config) { a.Pattern, a.WindowRopeTheta = "", 0 },
		"no windows":   func(_ *model.Config, a *attention.Config) { a.Pattern, a.WindowRopeTheta, a.Window = "", 0, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			checkpoint, m := tiny(t, "gqa-2", tied, gemma3, change)
			round(m)
			value := func(name string) ([]float32, error) { return m.Weights[name], nil }
			if err := m.Write(checkpoint, value, nil); err != nil {
				t.Fatal(err)
			}
			if c, reason := ClassOf(m.Transformer); c != Gemma3 {
				t.Fatal(c, reason)
			}
			(&specimen{Model: m}).goesThereAndBack(t, checkpoint)
			half := filepath.Join(t.TempDir(), "half") // norms are rounded as they go out, less one
			if _, err := HF(checkpoint, Options{Dir: half, DType: "bf16", ShardBytes: 1 << 30}); err != nil {
				t.Fatal(err)
			}
			v, err := Verify(t.Context(), half, m, "there-is-no-such-python", false)
			if err != nil || len(v.Failed) > 0 || v.Logits > 1e-6 {
				t.Errorf("in bf16: %+v, %v", v, err)
			}
		})
	}
}

// TestGemma3IsRead: what a Gemma 3 does not say is what the library takes then, version 4's names are read, and what is
// not known here is refused by its field.
func TestGemma3IsRead(t *testing.T) {
	dir := filepath.Join("testdata", "transformers", "gemma3")
	for change, want := range map[string]string{
		`{"hidden_activation": "gelu"}`:                                              "hidden_activation is gelu",
		`{"query_pre_attn_scalar": -1}`:                                              "query_pre_attn_scalar must be positive, it is -1",
		`{"final_logit_softcapping": 30.0}`:                                          "final_logit_softcapping",
		`{"attn_logit_softcapping": 50.0}`:                                           "attn_logit_softcapping",
		`{"use_bidirectional_attention": true}`:                                      "use_bidirectional_attention",
		`{"attention_bias": true}`:                                                   "attention_bias",
		`{"sliding_window": null}`:                                                   "sliding_window must be positive",
		`{"sliding_window": 0}`:                                                      "sliding_window must be positive",
		`{"layer_types": ["full_attention"]}`:                                        "layer_types has 1 layers, num_hidden_layers is 3",
		`{"layer_types": ["full_attention", "full_attention", "chunked_attention"]}`: "chunked_attention for layer 2",
		`{"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}}}`: "full_attention (linear)",
		`{"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}}`:                               "are not known here of Gemma3ForCausalLM",
		`{"rope_parameters": null, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}`:                  "rope scaling of type linear",
		`{"architectures": ["Gemma3ForConditionalGeneration"]}`:                                              "Gemma3ForConditionalGeneration cannot be read",
		`{"architectures": ["Gemma2ForCausalLM"]}`:                                                           "Gemma2ForCausalLM cannot be read",
		`{"head_dim": null, "query_pre_attn_scalar": null}`:                                                  "q_proj.weight is [48 32]",
	} {
		_, err := Read(changed(t, dir, change), filepath.Join(t.TempDir(), "x"), 0)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
	}
	read := func(change string) attention.Config {
		t.Helper()
		back := filepath.Join(t.TempDir(), "back")
		if _, err := Read(changed(t, dir, change), back, 0); err != nil {
			t.Fatal(change, err)
		}
		m, err := decode.Load(back)
		if err != nil || !m.Config.Tie {
			t.Fatalf("%s: %+v, %v", change, m, err)
		}
		return m.Attention
	}
	older := `{"rope_parameters": null, "rope_theta": 5000.0, "rope_local_base_freq": 300.0, "tie_word_embeddings": null}`
	if got, want := read(older), read(`{}`); got != want {
		t.Errorf("%+v by the older names, %+v by the newer", got, want)
	}
	a := read(`{"rope_parameters": null, "layer_types": null, "sliding_window_pattern": 3, "_sliding_window_pattern": null}`)
	if a.Pattern != "window,window,full" || a.RopeTheta != 1e6 || a.WindowRopeTheta != 1e4 || a.Window != 7 {
		t.Errorf("%+v", a)
	}
	if a = read(`{"query_pre_attn_scalar": null}`); a.ScaleDim != 256 {
		t.Errorf("%+v", a)
	}
	if a = read(`{"layer_types": null}`); a.Pattern != "" || a.Window != 7 || a.RopeTheta != 300 { // three of six layers
		t.Errorf("%+v", a)
	}
}

// TestGemmaIsAllOrNothing: a model that has some keys of Gemma and not all, or more, goes out as the project's own
// class.
func TestGemmaIsAllOrNothing(t *testing.T) {
	for name, change := range map[string]change{
		"norm":       func(c *model.Config, _ *attention.Config) { c.Norm = model.PreNorm },
		"activation": func(c *model.Config, _ *attention.Config) { c.Activation = model.SiLU },
		"embeddings": func(c *model.Config, _ *attention.Config) { c.EmbedScale = false },
		"heads":      func(_ *model.Config, a *attention.Config) { a.QKNorm = attention.NoNorm },
		"part":       partly,
		"scaled":     scaled,
		"gated":      gateOfHeads,
		"tied":       tiedValues,
	} {
		t.Run(name, func(t *testing.T) {
			checkpoint, m := tiny(t, "gqa-2", gemma3, change)
			(&specimen{Model: m}).goesOutAsOwn(t, checkpoint, "attention.window is 7")
		})
	}
}

// TestGGUFGemma3 finds norms as they are, one more than in the library, under llama.cpp's names, and refuses patterns
// and bases that llama.cpp does not have.
func TestGGUFGemma3(t *testing.T) {
	checkpoint, _ := tiny(t, "gqa-2", gemma3, tied)
	_, values, places, _ := writtenGGUF(t, checkpoint)
	if values["general.architecture"] != "gemma3" || values["gemma3.attention.sliding_window"] != uint32(7) {
		t.Errorf("%v", values)
	}
	for name, dims := range map[string][]uint64{
		"attn_q_norm": {8}, "attn_k_norm": {8}, "attn_norm": {32}, "post_attention_norm": {32}, "ffn_norm": {32},
		"post_ffw_norm": {32},
	} {
		if got := places["blk.5."+name+".weight"].dims; !slices.Equal(got, dims) {
			t.Errorf("%s is %v, not %v", name, got, dims)
		}
	}
	refusesGGUF(t, gemma3, map[string]func(*model.Config, *attention.Config){
		"(attention.pattern)": func(_ *model.Config, a *attention.Config) {
			a.Pattern = attention.PatternOf("window,full")
		},
		"(attention.window_rope_theta)": func(_ *model.Config, a *attention.Config) { a.WindowRopeTheta = 500 },
		"(attention.scale_dim)":         func(_ *model.Config, a *attention.Config) { a.ScaleDim = 168 },
		"62 layers":                     func(c *model.Config, _ *attention.Config) { c.Layers = 62 },
	})
}
