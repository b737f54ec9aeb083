package export

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/decode"
)

// TestScaledMLAIsOwn: DeepseekV3ForCausalLM is not written with a scaled rotary embedding, which nobody has tried.
func TestScaledMLAIsOwn(t *testing.T) {
	checkpoint, m := tiny(t, "mla", plainMLA, scaled)
	(&specimen{Model: m}).goesOutAsOwn(t, checkpoint, "attention.rope_scaling")
}

// TestScalingIsRead reads the names of the library's version 4, and refuses what is incomplete or contradicts itself.
func TestScalingIsRead(t *testing.T) {
	checkpoint, m := tiny(t, "gqa-2", scaled)
	out := filepath.Join(t.TempDir(), "hf")
	if _, err := HF(checkpoint, Options{Dir: out, DType: "fp32", ShardBytes: 1 << 30, Tokenizer: "bytes"}); err != nil {
		t.Fatal(err)
	}
	const numbers = `"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 40`
	older := fmt.Sprintf(`{"rope_parameters": null, "rope_scaling": {"rope_type": "llama3", %s}}`, numbers)
	for _, change := range []string{older, strings.Replace(older, "rope_type", "type", 1), `{"rope_scaling": null}`} {
		back := filepath.Join(t.TempDir(), "back")
		if _, err := Read(changed(t, out, change), back, 0); err != nil {
			t.Fatal(change, err)
		}
		sameWeights(t, "gqa-2", m, back)
	}
	for change, want := range map[string]string{
		strings.Replace(older, `"factor": 8.0`, `"factor": "8"`, 1):  "must have a positive factor, it is 8",
		strings.Replace(older, `"low_freq_factor": 1.0, `, ``, 1):    "must have a positive low_freq_factor, it is <nil>",
		strings.Replace(older, `: 4.0`, `: 0.5`, 1):                  "rope_scaling.high_freq_factor must be above",
		strings.Replace(older, `, "original_max_po`, `, "max_po`, 1): "must have a positive original_max_position_embeddings",
		strings.Replace(older, `"factor": 8.0`, `"factor": 0.5`, 1):  "rope_scaling.factor must be at least 1",
		`{"rope_parameters": {"rope_type": "default"}}`:              "rope_parameters is of type default and rope_scaling of",
		`{"rope_scaling": {"rope_type": "linear", "factor": 2.0}}`:   "rope_parameters is of type llama3 and rope_scaling of type linear",
		`{"rope_parameters": {"full_attention": {}}}`:                "by layer: full_attention",
		`{"rope_parameters": {"partial_rotary_factor": 0.5}}`:        "partial_rotary_factor",
	} {
		_, err := Read(changed(t, out, change), filepath.Join(t.TempDir(), "x"), 0)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
	}
}

// TestGGUFScalesRope finds what each pair's frequency is divided by beside the other tensors: of pairs that turn more
// than four times in the original context 1, and of those that turn less than once in it the factor.
func TestGGUFScalesRope(t *testing.T) {
	checkpoint, _ := tiny(t, "gqa-2", scaled)
	text, _, tensors, start := writtenGGUF(t, checkpoint)
	got := tensors["rope_freqs.weight"]
	if got.typ != ggmlF32 || len(got.dims) != 1 || got.dims[0] != 4 {
		t.Fatalf("%+v", got)
	}
	turns := 40 * math.Pow(500, -2.0/8) / (2 * math.Pi)
	kept := (turns - 1) / 3
	for i, want := range []float64{1, 1 / (kept + (1-kept)/8), 8, 8} {
		g := ggufReader{b: text, at: int(start + got.at + uint64(4*i))}
		if x := math.Float32frombits(g.u32()); !(math.Abs(float64(x)-want) < 1e-5) {
			t.Errorf("pair %d is divided by %v, not %v", i, x, want)
		}
	}
	if plain, _ := tiny(t, "gqa-2"); plain != "" {
		if _, _, tensors, _ = writtenGGUF(t, plain); len(tensors) == 0 || tensors["rope_freqs.weight"].dims != nil {
			t.Errorf("a model without scaling has %+v", tensors["rope_freqs.weight"])
		}
	}
}

// TestOlderCheckpointsAreNotScaled reads a header that does not know of scaling.
func TestOlderCheckpointsAreNotScaled(t *testing.T) {
	dir, m := tiny(t, "gqa-2")
	path := filepath.Join(dir, "model.safetensors")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const key = `\"rope_scaling\":{\"factor\":0,\"high_freq_factor\":0,\"low_freq_factor\":0,\"original_context\":0},`
	older := strings.Replace(string(text), key, strings.Repeat(" ", len(key)), 1)
	if older == string(text) {
		t.Fatalf("the header has no %s", key)
	}
	if err := os.WriteFile(path, []byte(older), 0o666); err != nil {
		t.Fatal(err)
	}
	got, err := decode.Load(dir)
	if err != nil || got.Attention != m.Attention.Resolve() {
		t.Errorf("%+v, %v", got, err)
	}
}
