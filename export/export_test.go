package export

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/data"
	"headroom/decode"
	"headroom/internal/safetensors"
	"headroom/model"
)

// tiny writes a checkpoint of a small model with random weights, norms and biases among them.
func tiny(t testing.TB, kind string, change ...func(*model.Config, *attention.Config)) (dir string, m *decode.Model) {
	t.Helper()
	c, a := model.Default(), attention.Default()
	c.Layers, c.Width, c.MLP, c.Vocab, c.Context, c.Tie = 2, 32, 48, 260, 80, false
	a.Heads, a.HeadDim = 4, 8
	var err error
	if a.Kind, a.Groups, err = attention.Parse(kind); err != nil {
		t.Fatal(err)
	}
	if d, err := a.Kind.Describe(); err == nil && d.Cache != attention.KeyValue {
		a.RopeDim = 4
	}
	for _, f := range change {
		f(&c, &a)
	}
	tr, err := model.New(c, a)
	if err != nil {
		t.Fatal(err)
	}
	m = decode.Random(tr, 3)
	r := rand.New(rand.NewPCG(4, 4))
	for _, p := range tr.Params() { // in their order: the same each time
		for i := range m.Weights[p.Name] {
			m.Weights[p.Name][i] += float32(r.NormFloat64() * 0.2)
		}
	}
	dir = t.TempDir()
	if err := tr.Write(dir, func(name string) ([]float32, error) { return m.Weights[name], nil }, nil); err != nil {
		t.Fatal(err)
	}
	m.Tokenizer = "bytes"
	return dir, m
}

func plainMLA(c *model.Config, a *attention.Config) { c.NormEps, a.Bias = deepseekEps, "none" }
func olmo2(c *model.Config, a *attention.Config) {
	c.Norm, a.QKNorm = model.PostNorm, attention.AllNorm
}
func headNorms(_ *model.Config, a *attention.Config) { a.QKNorm = attention.HeadNorm }
func tied(c *model.Config, _ *attention.Config)      { c.Tie = true }
func unread(_ *model.Config, a *attention.Config) {
	a.LatentDim, a.QueryLatentDim, a.QueryNorm = 5, 7, "whole"
}
func spun(_ *model.Config, a *attention.Config) { a.RopeTheta = 500 }
func scaled(_ *model.Config, a *attention.Config) {
	a.RopeTheta = 500
	a.RopeScaling = attention.RopeScaling{Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalContext: 40}
}
func wholeNorm(_ *model.Config, a *attention.Config) { a.QueryNorm = attention.WholeNorm }

var cases = []struct {
	kind   string
	change []func(*model.Config, *attention.Config)
	class  Class
}{
	{"mha", nil, Llama}, {"gqa-2", nil, Llama}, {"mqa", []func(*model.Config, *attention.Config){tied}, Llama},
	{"mla", []func(*model.Config, *attention.Config){plainMLA}, DeepSeek}, {"mla", nil, Own}, {"gta-2", nil, Own},
	{"gla-2", nil, Own},
	{"gla-2", []func(*model.Config, *attention.Config){plainMLA, tied}, Own}, {"gla_q-2", nil, Own},
	{"mfa", nil, Own}, {"mfa", []func(*model.Config, *attention.Config){spun, tied}, Own},
	{"gqa-2", []func(*model.Config, *attention.Config){unread}, Llama},
	{"gla_q-2", []func(*model.Config, *attention.Config){wholeNorm}, Own},
	{"gla-1", nil, Own}, {"gla_q-1", nil, Own}, // come back as what they are: MLA, and one part
	{"gqa-2", []func(*model.Config, *attention.Config){spun}, Llama},
	{"gqa-2", []func(*model.Config, *attention.Config){scaled}, Llama},
	{"mha", []func(*model.Config, *attention.Config){headNorms}, Qwen3},
	{"gqa-2", []func(*model.Config, *attention.Config){olmo2, spun}, Olmo2},
	{"mha", []func(*model.Config, *attention.Config){olmo2, scaled, tied}, Olmo2},
	{"gqa-2", []func(*model.Config, *attention.Config){headNorms, spun, tied}, Qwen3},
	{"mqa", []func(*model.Config, *attention.Config){headNorms, scaled}, Qwen3},
	{"mla", []func(*model.Config, *attention.Config){plainMLA, spun}, DeepSeek},
	{"mla", []func(*model.Config, *attention.Config){spun}, Own},
	{"gta-2", []func(*model.Config, *attention.Config){spun}, Own},
	{"gla-2", []func(*model.Config, *attention.Config){spun}, Own},
	{"gla_q-2", []func(*model.Config, *attention.Config){spun}, Own},
}

// TestThereAndBack exports each kind, verifies it, imports it, and finds the very same weights.
func TestThereAndBack(t *testing.T) {
	for _, c := range cases {
		checkpoint, m := tiny(t, c.kind, c.change...)
		for _, dtype := range []string{"fp32", "bf16"} {
			out := filepath.Join(t.TempDir(), "hf")
			r, err := HF(checkpoint, Options{Dir: out, DType: dtype, ShardBytes: 20000, Tokenizer: "bytes", Card: "card"})
			if err != nil {
				t.Fatalf("%s: %v", c.kind, err)
			}
			if r.Class != c.class || (r.Reason == "") != (c.class != Own) || !slices.Contains(r.Files, indexFile) ||
				!slices.Contains(r.Files, "tokenizer.json") {
				t.Errorf("%s: %+v", c.kind, r)
			}
			text, err := os.ReadFile(filepath.Join(out, "config.json"))
			if theta := fmt.Sprintf(`"rope_theta": %.1f`, m.Attention.RopeTheta); err != nil ||
				strings.Count(string(text), theta) != strings.Count(string(text), "rope_theta") {
				t.Errorf("%s: the rotary base is not %s throughout (%v):\n%s", c.kind, theta, err, text)
			}
			v, err := Verify(context.Background(), out, m, "there-is-no-such-python", false)
			if err != nil || len(v.Failed) > 0 || v.Logits != 0 || v.Greedy != v.GreedyOf || v.GreedyOf != 64 ||
				(v.Rounding > 0) != (dtype == "bf16") {
				t.Errorf("%s in %s: %+v, %v", c.kind, dtype, v, err)
			}
			back := filepath.Join(t.TempDir(), "back")
			i, err := Read(out, back, 0)
			if err != nil || i.Class != c.class || i.Tokenizer != "bytes" {
				t.Fatalf("%s: %+v, %v", c.kind, i, err)
			}
			if dtype == "fp32" {
				sameWeights(t, c.kind, m, back)
			}
		}
	}
}

func sameWeights(t *testing.T, kind string, m *decode.Model, dir string) {
	t.Helper()
	got, err := decode.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !alike(got.Transformer, m.Transformer) || got.Tokenizer != "bytes" {
		t.Errorf("%s came back as %+v %+v %q", kind, got.Config, got.Attention, got.Tokenizer)
	}
	for name, w := range m.Weights {
		if !slices.Equal(w, got.Weights[name]) {
			t.Errorf("%s: %s came back with other values", kind, name)
		}
	}
}

// TestForeignTokenizer imports a directory whose tokenizer.json is all that is known of its tokenizer, and one that
// cannot be read.
func TestForeignTokenizer(t *testing.T) {
	checkpoint, _ := tiny(t, "gqa-2")
	hf, back := filepath.Join(t.TempDir(), "hf"), filepath.Join(t.TempDir(), "back")
	if _, err := HF(checkpoint, Options{Dir: hf, DType: "fp32", ShardBytes: 1 << 30, Tokenizer: "bytes"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hf, "tokenizer_config.json"), []byte("{}"), 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := Read(hf, back, 0)
	if err != nil || r.Tokenizer != filepath.Join(back, "tokenizer.json") {
		t.Fatalf("%+v, %v", r, err)
	}
	m, err := decode.Load(back)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := data.NewTokenizer(m.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := data.NewTokenizer("bytes")
	if text := []byte("déjà vu, 12\n"); !slices.Equal(tok.Append(nil, text), ours.Append(nil, text)) ||
		tok.EndOfText != ours.EndOfText {
		t.Error("the file is another tokenizer")
	}
	again := filepath.Join(t.TempDir(), "again")
	if _, err := HF(back, Options{Dir: again, DType: "fp32", ShardBytes: 1 << 30, Tokenizer: m.Tokenizer}); err != nil {
		t.Error(err)
	}
	if v, err := Verify(context.Background(), again, m, "there-is-no-such-python", false); err != nil ||
		len(v.Failed) > 0 || v.Rows != 4 {
		t.Errorf("%+v, %v", v, err)
	}
	if err := os.WriteFile(filepath.Join(hf, "tokenizer.json"),
		[]byte(`{"model": {"type": "Unigram"}}`), 0o666); err != nil {
		t.Fatal(err)
	}
	if r, err := Read(hf, filepath.Join(t.TempDir(), "x"), 0); err != nil || r.Tokenizer != "" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestVerifyFinds breaks an export in several ways.
func TestVerifyFinds(t *testing.T) {
	checkpoint, m := tiny(t, "gqa-2")
	out := filepath.Join(t.TempDir(), "hf")
	if _, err := HF(checkpoint, Options{Dir: out, DType: "fp32", ShardBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(out, "config.json")
	good, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(from, to string) {
		text := strings.Replace(string(good), from, to, 1)
		if text == string(good) {
			t.Fatalf("config.json has no %s", from)
		}
		if err := os.WriteFile(config, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	edit(`"num_key_value_heads": 2`, `"num_key_value_heads": 4`)
	if _, err := Verify(context.Background(), out, m, "", false); err == nil ||
		!strings.Contains(err.Error(), "k_proj.weight is [16 32]") {
		t.Errorf("other heads: %v", err)
	}
	edit(`"rope_theta": 10000.0`, `"rope_theta": 5000.0`)
	if _, err := Verify(context.Background(), out, m, "", false); err == nil ||
		!strings.Contains(err.Error(), "another model") {
		t.Errorf("another rotation: %v", err)
	}
	os.WriteFile(config, good, 0o666)
	m.Weights["blocks.1.attn.Wv"][5] += 0.5
	v, err := Verify(context.Background(), out, m, "", false)
	if err != nil || len(v.Failed) == 0 || !strings.Contains(v.String(), "FAILS") {
		t.Errorf("another weight: %+v, %v", v, err)
	}
	if _, err := Verify(context.Background(), out, m, "there-is-no-such-python", true); err == nil {
		t.Error("a Python that is not there was found")
	}
}

// TestRefuses names what cannot be read or written.
func TestRefuses(t *testing.T) {
	checkpoint, _ := tiny(t, "gta-2")
	full := t.TempDir()
	os.WriteFile(filepath.Join(full, "x"), nil, 0o666)
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Dir: full, DType: "fp32", ShardBytes: 1}, "not empty"},
		{Options{Dir: full + "/y", DType: "fp16", ShardBytes: 1}, "dtype must be fp32 or bf16"},
		{Options{Dir: full + "/y", DType: "fp32"}, "at least one byte"},
		{Options{Dir: full + "/y", DType: "fp32", ShardBytes: 1, Tokenizer: "gpt2"}, "token 50256, the model has 260"},
		{Options{Dir: full + "/y", DType: "fp32", ShardBytes: 1, Tokenizer: "nobody"}, "nobody"},
	} {
		if _, err := HF(checkpoint, c.o); err == nil || !strings.Contains(err.Error(), c.want) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v", c.o, err)
		}
		if left, _ := filepath.Glob(full + "/.*"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	if _, err := GGUF(checkpoint, Options{Dir: full + "/z", DType: "fp32"}); err == nil ||
		!strings.Contains(err.Error(), "GGUF is for MHA, MQA and GQA") {
		t.Error(err)
	}
	out := filepath.Join(t.TempDir(), "hf")
	if _, err := HF(checkpoint, Options{Dir: out, DType: "fp32", ShardBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ change, want string }{
		{`{"architectures":["GPT2LMHeadModel"]}`, "architectures GPT2LMHeadModel cannot be read"},
		{`{"rope_parameters":{"rope_type":"yarn","factor":4}}`, "rope scaling of type yarn (rope_scaling) is not known"},
		{`{"rope_scaling":{"type":"linear","factor":4}}`, "rope scaling of type linear (rope_scaling) is not known"},
		{`{"rope_scaling":{"rope_type":"dynamic","factor":4}}`, "rope scaling of type dynamic (rope_scaling) is not known"},
		{`{"rope_scaling":{"type":"longrope"}}`, "rope scaling of type longrope (rope_scaling) is not known"},
		{`{"rope_scaling":{"rope_type":"llama3"}}`, "rope scaling of type llama3 (rope_scaling) is not known here: only llama3"},
		{`{"rope_scaling":{"factor":4}}`, "rope scaling of type factor"},
		{`{"sliding_window":128}`, "layer_types has 0 layers, num_hidden_layers is 2"},
		{`{"layer_types":["full_attention","sliding_attention"]}`, "sliding_window must be positive"},
		{`{"layer_types":["full_attention","linear_attention"],"sliding_window":8}`, "linear_attention for layer 1"},
		{`{"gate":"tensor"}`, `gate is none, head or element, not "tensor"`},
		{`{"activation":"relu"}`, "activation must be silu or gelu_tanh, it is relu"},
		{`{"norm":"sandwich"}`, "norm must be pre, post or both, it is sandwich"},
		{`{"qk_norm":"head"}`, "qk_norm must be none"},
		{`{"scaled_rope":{"factor":8.0}}`, "high_freq_factor must be above low_freq_factor"},
		{`{"per_layer_config":{"0":{"head_dim":4}}}`, "per_layer_config"},
		{`{"sinks":4}`, "config.json has sinks, which this version does not know"},
		{`{"quantization_config":{}}`, "quantised"},
		{`{"hidden_act":"gelu"}`, "hidden_act is gelu"},
		{`{"num_hidden_layers":0}`, "num_hidden_layers must be positive"},
		{`{"num_hidden_layers":1000000}`, "too few for 1000000 layers"},
		{`{"num_hidden_layers":-1}`, "num_hidden_layers must be positive"},
		{`{"hidden_size":9000000000}`, "not possible"},
		{`{"kind":"other"}`, "kind is one of gqa, mfa, mfa_kr, tpa, gta, latent, mlra, gqla, not"},
		{`{"attention_bias":true}`, "biases"},
		{`{"vocab_size":"many"}`, "config.json"},
	} {
		_, err := Read(changed(t, out, c.change), filepath.Join(t.TempDir(), "x"), 0)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.change, err, c.want)
		}
	}
	if _, err := Read(out, filepath.Join(t.TempDir(), "x"), 81); err == nil ||
		!strings.Contains(err.Error(), "context must be at most the 80") {
		t.Error(err)
	}
}

// changed is a copy of an export with other values in its config.json.
func changed(t *testing.T, dir, change string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(to, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(change), &c); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(path, c); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestNothingOutside puts links and paths into a directory that lead out of it.
func TestNothingOutside(t *testing.T) {
	checkpoint, _ := tiny(t, "mha")
	out := filepath.Join(t.TempDir(), "hf")
	if _, err := HF(checkpoint, Options{Dir: out, DType: "fp32", ShardBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	weights := filepath.Join(out, "model.safetensors")
	outside := filepath.Join(t.TempDir(), "model.safetensors")
	if err := os.Rename(weights, outside); err != nil {
		t.Fatal(err)
	}
	read := func() error { _, err := Read(out, filepath.Join(t.TempDir(), "x"), 0); return err }
	if err := os.WriteFile(filepath.Join(out, "pytorch_model.bin"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := read(); err == nil || !strings.Contains(err.Error(), "a pickle") {
		t.Error(err)
	}
	os.Remove(filepath.Join(out, "pytorch_model.bin"))
	if err := os.Symlink(outside, weights); err != nil {
		t.Fatal(err)
	}
	if err := read(); err == nil || !strings.Contains(err.Error(), "a link that leaves the directory") {
		t.Error(err)
	}
	os.Remove(weights)
	for _, name := range []string{"../model.safetensors", outside, "sub/model.safetensors", "model.bin", ""} {
		if err := writeJSON(filepath.Join(out, indexFile),
			index{Where: map[string]string{"model.norm.weight": name}}); err != nil {
			t.Fatal(err)
		}
		if err := read(); err == nil || !strings.Contains(err.Error(), "no .safetensors file of the directory") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestCodeIsOurs(t *testing.T) {
	checkpoint, _ := tiny(t, "gla-2")
	out := filepath.Join(t.TempDir(), "hf")
	if _, err := HF(checkpoint, Options{Dir: out, DType: "fp32", ShardBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	f, err := openFolder(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.checkCode(Own); err != nil {
		t.Error(err)
	}
	os.WriteFile(filepath.Join(out, code[0]), []byte("import os"), 0o666)
	if err := f.checkCode(Own); err == nil || !strings.Contains(err.Error(), "is not run") {
		t.Error(err)
	}
}

// TestTokenizerFile applies the merges that were written, by rank, and gets the tokenizer's ids.
func TestTokenizerFile(t *testing.T) {
	for _, name := range []string{"bytes", "gpt2"} {
		dir := t.TempDir()
		if err := writeTokenizer(dir, name, 100); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Model struct {
				Vocab  map[string]int32
				Merges [][2]string
			}
		}
		if err := json.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		if file.Model.Merges == nil {
			t.Error("merges are null, which the tokenizers library refuses: bytes have an empty list")
		}
		ours, err := data.NewTokenizer(name)
		if err != nil {
			t.Fatal(err)
		}
		rank := map[[2]string]int{}
		for i, m := range file.Model.Merges {
			rank[m] = i
		}
		for _, word := range []string{"the", " attention", " déjà", "\n\n", " 1234", "🙂",
			" internationalization", "\x00ÿ"} {
			var parts []string
			for _, b := range []byte(word) {
				parts = append(parts, printable(string([]byte{b})))
			}
			for {
				best, at := len(rank), -1
				for i := range len(parts) - 1 {
					if r, ok := rank[[2]string{parts[i], parts[i+1]}]; ok && r < best {
						best, at = r, i
					}
				}
				if at < 0 {
					break
				}
				parts = slices.Replace(parts, at, at+2, parts[at]+parts[at+1])
			}
			var ids []int32
			for _, p := range parts {
				ids = append(ids, file.Model.Vocab[p])
			}
			if want := ours.Append(nil, []byte(word)); !slices.Equal(ids, want) {
				t.Errorf("%s: %q is %v by the file, %v by us", name, word, ids, want)
			}
		}
	}
}

// TestGGUF reads a file back by the format's own rules.
func TestGGUF(t *testing.T) {
	checkpoint, m := tiny(t, "gqa-2")
	path := filepath.Join(t.TempDir(), "m.gguf")
	if _, err := GGUF(checkpoint, Options{Dir: path, DType: "bf16", Tokenizer: "bytes"}); err != nil {
		t.Fatal(err)
	}
	if _, err := GGUF(checkpoint, Options{Dir: path, DType: "bf16"}); err == nil ||
		!strings.Contains(err.Error(), "there already") {
		t.Error(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	values, places, start := readGGUF(t, text)
	if values["llama.attention.head_count_kv"] != uint32(2) || values["tokenizer.ggml.bos_token_id"] != uint32(256) ||
		len(values["tokenizer.ggml.tokens"].([]any)) != 260 {
		t.Errorf("%v", values)
	}
	q := places["blk.1.attn_q.weight"]
	if !slices.Equal(q.dims, []uint64{32, 32}) || q.typ != ggmlBF16 || q.at%alignment != 0 {
		t.Fatalf("%+v", q)
	}
	W := m.Weights["blocks.1.attn.Wq"] // [32, 32]: in, out
	for head := range 4 {
		for i := range 4 { // of the rotary pairs
			for half := range 2 {
				row, column := head*8+2*i+half, head*8+i+4*half
				for in := range 32 {
					got := binary.LittleEndian.Uint16(text[start+q.at+uint64(2*(row*32+in)):])
					if want := safetensors.ToBF16(W[in*32+column]); got != want {
						t.Fatalf("row %d, column %d is %#x, not %#x", row, in, got, want)
					}
				}
			}
		}
	}
	if n := places["output_norm.weight"]; n.typ != ggmlF32 || len(n.dims) != 1 {
		t.Errorf("%+v", n)
	}
	last := places["output.weight"]
	if want := int(start+last.at) + padded(2*32*260); len(text) != want {
		t.Errorf("the file has %d bytes, not %d", len(text), want)
	}
}

// A place is where a GGUF file has a tensor.
type place struct {
	dims []uint64
	typ  uint32
	at   uint64 // from start
}

// writtenGGUF exports a checkpoint in bf16 and reads the file.
func writtenGGUF(t *testing.T, checkpoint string) (text []byte, values map[string]any, places map[string]place,
	start uint64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.gguf")
	if _, err := GGUF(checkpoint, Options{Dir: path, DType: "bf16"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	values, places, start = readGGUF(t, text)
	return text, values, places, start
}

// refusesGGUF exports models of a family that llama.cpp's does not have, by the error that says so.
func refusesGGUF(t *testing.T, family func(*model.Config, *attention.Config),
	changes map[string]func(*model.Config, *attention.Config)) {
	t.Helper()
	for want, change := range changes {
		checkpoint, _ := tiny(t, "gqa-2", family, change)
		_, err := GGUF(checkpoint, Options{Dir: filepath.Join(t.TempDir(), "x"), DType: "fp32"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// readGGUF reads what stands before the tensors.
func readGGUF(t *testing.T, text []byte) (values map[string]any, places map[string]place, start uint64) {
	t.Helper()
	g := &ggufReader{b: text}
	if magic := string(g.take(4)); magic != "GGUF" || g.u32() != 3 {
		t.Fatal(magic)
	}
	tensors, keys := int(g.u64()), int(g.u64())
	values, places = map[string]any{}, map[string]place{}
	for range keys {
		name := g.text()
		values[name] = g.value(g.u32())
	}
	for range tensors {
		name := g.text()
		p := place{dims: make([]uint64, g.u32())}
		for i := range p.dims {
			p.dims[i] = g.u64()
		}
		p.typ, p.at = g.u32(), g.u64()
		places[name] = p
	}
	return values, places, uint64(padded(g.at))
}

// A ggufReader reads the format's values.
type ggufReader struct {
	b  []byte
	at int
}

func (g *ggufReader) take(n int) []byte { g.at += n; return g.b[g.at-n : g.at] }
func (g *ggufReader) u32() uint32       { return binary.LittleEndian.Uint32(g.take(4)) }
func (g *ggufReader) u64() uint64       { return binary.LittleEndian.Uint64(g.take(8)) }
func (g *ggufReader) text() string      { return string(g.take(int(g.u64()))) }

func (g *ggufReader) value(typ uint32) any {
	switch typ {
	case ggufUint32, ggufInt32, ggufFloat32:
		return g.u32()
	case ggufBool:
		return g.take(1)[0] != 0
	case ggufString:
		return g.text()
	}
	var all []any
	of, n := g.u32(), int(g.u64())
	for range n {
		all = append(all, g.value(of))
	}
	return all
}

// FuzzConfig reads configurations: an error, or a model; never a panic.
func FuzzConfig(f *testing.F) {
	for _, c := range cases {
		_, m := tiny(f, c.kind, c.change...)
		config, err := c.class.config(m.Transformer, "float32", object{"eos_token_id": 256})
		if err != nil {
			f.Fatal(err)
		}
		text, _ := json.Marshal(config)
		f.Add(string(text))
	}
	f.Add(`{"architectures":["LlamaForCausalLM"],"num_attention_heads":1e9}`)
	f.Fuzz(func(t *testing.T, text string) {
		var c foreign
		if json.Unmarshal([]byte(text), &c) != nil {
			return
		}
		class, m, a, err := c.model()
		if err != nil || m.Layers > 8 {
			return
		}
		if tr, err := model.New(m, a); err == nil {
			class.tensors(tr)
		}
	})
}

// TestEveryKindHasAName: a kind that modeling_headroom.py does not know is not written as another.
func TestEveryKindHasAName(t *testing.T) {
	for _, d := range attention.Descriptions {
		if err := refuseOwn(d.Kind); (err == nil) != d.Exported() {
			t.Errorf("%s: %v", d.Kind, err)
		}
	}
	err := refuseOwn("nsa")
	if err == nil || !strings.Contains(err.Error(), `kind "nsa" is none of mha, gqa`) {
		t.Errorf("an unknown kind: %v", err)
	}
}
