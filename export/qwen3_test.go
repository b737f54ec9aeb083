package export

import (
	"encoding/binary"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/safetensors"
	"headroom/model"
)

// TestQKNormIsNotLost: norms of queries and keys go out in the class that has them, or in the project's own, and come
// back.
func TestQKNormIsNotLost(t *testing.T) {
	whole := func(_ *model.Config, a *attention.Config) { a.RopeDim = 0 }
	for _, kind := range []string{"mha", "gqa-2", "mqa", "mfa"} {
		for _, norm := range []string{attention.HeadNorm, attention.AllNorm} {
			for i, rotation := range []change{whole, partly} {
				checkpoint, m := tiny(t, kind, rotation, func(_ *model.Config, a *attention.Config) { a.QKNorm = norm })
				s := &specimen{Model: m}
				if kind != "mfa" && norm == attention.HeadNorm && i == 0 {
					s.goesThereAndBack(t, checkpoint)
				} else {
					s.goesOutAsOwn(t, checkpoint, "GGUF is for MHA, MQA and GQA")
				}
			}
		}
	}
	checkpoint, _ := tiny(t, "gqa-2", headNorms, scaled)
	_, err := GGUF(checkpoint, Options{Dir: filepath.Join(t.TempDir(), "x"), DType: "fp32"})
	if err == nil || !strings.Contains(err.Error(), "qwen3 does not scale rotary embeddings (attention.rope_scaling)") {
		t.Errorf("a scaled rotary embedding: %v", err)
	}
}

// TestQwen3IsRead: what a Qwen3 may have beside norms is refused by the field of config.json, and what is not said is
// what the library takes then.
func TestQwen3IsRead(t *testing.T) {
	dir := filepath.Join("testdata", "transformers", "qwen3")
	for change, want := range map[string]string{
		`{}`: "",
		`{"sliding_window": 4096, "layer_types": null, "use_sliding_window": false}`:                                "",
		`{"use_sliding_window": true, "sliding_window": 16}`:                                                        "", // layer_types say that none has it
		`{"use_sliding_window": true, "layer_types": null, "max_window_layers": 2}`:                                 "",
		`{"use_sliding_window": true, "layer_types": null, "max_window_layers": 1}`:                                 "sliding_window must be positive",
		`{"use_sliding_window": true, "sliding_window": 0, "layer_types": ["full_attention", "sliding_attention"]}`: "sliding_window must be positive",
		`{"layer_types": ["full_attention", "sliding_attention"]}`:                                                  "layer 1, and use_sliding_window is false",
		`{"layer_types": ["full_attention"]}`:                                                                       "layer_types has 1 layers",
		`{"layer_types": ["full_attention", "linear_attention"]}`:                                                   "layer_types has linear_attention for layer 1",
		`{"attention_bias": true}`:                                                                                  "attention_bias",
		`{"hidden_act": "gelu"}`:                                                                                    "hidden_act is gelu",
		`{"rope_scaling": {"rope_type": "yarn", "factor": 4}}`:                                                      "yarn",
		`{"head_dim": null}`:                         "q_proj.weight is [48 32]",
		`{"tie_word_embeddings": true}`:              "", // the library ignores the file's head then
		`{"num_key_value_heads": null}`:              "k_proj.weight is [24 32]",
		`{"architectures": ["Qwen3MoeForCausalLM"]}`: "Qwen3MoeForCausalLM cannot be read",
		`{"architectures": ["LlamaForCausalLM"]}`:    "k_norm.weight",
	} {
		back := filepath.Join(t.TempDir(), "back")
		_, err := Read(changed(t, dir, change), back, 0)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
	}
	back := filepath.Join(t.TempDir(), "back")
	if _, err := Read(changed(t, dir, `{"rms_norm_eps": null, "rope_parameters": null}`), back, 0); err != nil {
		t.Fatal(err)
	}
	m, err := decode.Load(back)
	if err != nil || m.Config.NormEps != 1e-6 || m.Attention.RopeTheta != 10000 ||
		m.Attention.QKNorm != attention.HeadNorm {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestQwen3Windows reads windows by the kinds of layers, by the first layer that has one, and by what the library takes
// where nothing is said; and writes what it read.
func TestQwen3Windows(t *testing.T) {
	dir := filepath.Join("testdata", "transformers", "qwen3")
	for change, want := range map[string]attention.Config{
		`{"use_sliding_window": true, "sliding_window": 9, "layer_types": ["full_attention", "sliding_attention"]}`: {
			Window: 9, Pattern: "full,window"},
		`{"use_sliding_window": true, "sliding_window": 9, "layer_types": null, "max_window_layers": 1}`: {
			Window: 9, Pattern: "full,window"},
		`{"use_sliding_window": true, "sliding_window": 9, "layer_types": null, "max_window_layers": 0}`:    {Window: 9},
		`{"use_sliding_window": true, "sliding_window": 9, "layer_types": null, "max_window_layers": null}`: {},
	} {
		dirs := t.TempDir()
		back, out, again := filepath.Join(dirs, "back"), filepath.Join(dirs, "hf"), filepath.Join(dirs, "again")
		if _, err := Read(changed(t, dir, change), back, 0); err != nil {
			t.Fatal(change, err)
		}
		m, err := decode.Load(back)
		if err != nil || m.Attention.Window != want.Window || m.Attention.Pattern != want.Pattern {
			t.Fatalf("%s: %+v, %v", change, m.Attention, err)
		}
		if r, err := HF(back, Options{Dir: out, DType: "fp32", ShardBytes: 1 << 30}); err != nil || r.Class != Qwen3 {
			t.Fatalf("%s: %+v, %v", change, r, err)
		}
		if _, err := Read(out, again, 0); err != nil {
			t.Fatal(change, err)
		}
		if got, err := decode.Load(again); err != nil || !alike(got.Transformer, m.Transformer) {
			t.Errorf("%s came back as %+v (%v)", change, got.Attention, err)
		}
	}
	var silent foreign
	if err := json.Unmarshal([]byte(`{"use_sliding_window": true}`), &silent); err != nil || silent.qwen3Window() != 4096 {
		t.Errorf("a Qwen3 that says nothing has a window of %d (%v)", silent.qwen3Window(), err)
	}
}

// TestQwen3Configurations reads configurations of the shapes that Qwen3 models have, as the library's version 4 writes
// them: heads wider than the state's share, no scaling, and a window that is not in use.
func TestQwen3Configurations(t *testing.T) {
	const common = `"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "head_dim": 128, "hidden_act": "silu",
		"initializer_range": 0.02, "max_position_embeddings": 40960, "model_type": "qwen3", "num_key_value_heads": 8,
		"rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "use_cache": true,
		"use_sliding_window": false, "vocab_size": 151936`
	for _, c := range []struct {
		own        string
		parameters int64
	}{
		{`"hidden_size": 1024, "intermediate_size": 3072, "max_window_layers": 28, "num_attention_heads": 16,
			"num_hidden_layers": 28, "tie_word_embeddings": true`, 596049920},
		{`"hidden_size": 4096, "intermediate_size": 12288, "max_window_layers": 36, "num_attention_heads": 32,
			"num_hidden_layers": 36, "tie_word_embeddings": false`, 8190735360},
	} {
		var f foreign
		if err := json.Unmarshal([]byte("{"+common+", "+c.own+"}"), &f); err != nil {
			t.Fatal(err)
		}
		class, m, a, err := f.model()
		if err != nil || class != Qwen3 || a.Kind != attention.GQA || a.Groups != 8 || a.HeadDim != 128 ||
			a.QKNorm != attention.HeadNorm || a.RopeTheta != 1e6 {
			t.Fatalf("%s %+v %+v: %v", class, m, a, err)
		}
		tr, err := model.New(m, a)
		if err != nil {
			t.Fatal(err)
		}
		if got := tr.Count().Parameters; got != c.parameters {
			t.Errorf("a model of width %d has %d parameters, not %d", m.Width, got, c.parameters)
		}
	}
}

// TestGGUFQwen3 finds the rows of queries and keys as they are, and the norms, under the names of llama.cpp's qwen3.
func TestGGUFQwen3(t *testing.T) {
	checkpoint, m := tiny(t, "gqa-2", headNorms)
	text, values, places, start := writtenGGUF(t, checkpoint)
	if values["general.architecture"] != "qwen3" || values["qwen3.attention.head_count_kv"] != uint32(2) ||
		values["qwen3.attention.key_length"] != uint32(8) {
		t.Errorf("%v", values)
	}
	for key := range values {
		if strings.HasPrefix(key, "llama.") {
			t.Errorf("a qwen3 has the key %s", key)
		}
	}
	for name, ours := range map[string]string{"attn_q": "attn.Wq", "attn_k": "attn.Wk"} {
		at, W := places["blk.1."+name+".weight"], m.Weights["blocks.1."+ours]
		for row := range len(W) / 32 {
			for in := range 32 {
				got := binary.LittleEndian.Uint16(text[start+at.at+uint64(2*(row*32+in)):])
				if want := safetensors.ToBF16(W[in*(len(W)/32)+row]); got != want {
					t.Fatalf("%s: row %d, column %d is %#x, not %#x", name, row, in, got, want)
				}
			}
		}
		norm := places["blk.1."+name+"_norm.weight"]
		if norm.typ != ggmlF32 || !slices.Equal(norm.dims, []uint64{8}) {
			t.Errorf("the norm of %s is %+v", name, norm)
		}
	}
}
