package export

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"headroom/decode"
	"headroom/internal/safetensors"
)

// TestTransformersModels imports models that the transformers library wrote, by testdata/transformers/gen.py, and
// computes the library's logits and greedy tokens. They have sharded files, tied embeddings, heads wider than the
// state's share, DeepSeek-V3's interleaved rotation, Llama 3's scaled one, the norms of Qwen3, OLMo 2 and Gemma 3, and
// windows. Exported again, they are the same files, and the export is verified.
func TestTransformersModels(t *testing.T) {
	for _, name := range []string{"llama", "llama-tied", "deepseek", "llama3", "qwen3", "qwen3-window", "olmo2", "gemma3",
		"mistral"} {
		dir, back := filepath.Join("testdata", "transformers", name), filepath.Join(t.TempDir(), name)
		if r, err := Read(dir, back, 0); err != nil || len(r.Unknown) > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		m, err := decode.Load(back)
		if err != nil {
			t.Fatal(err)
		}
		f, err := safetensors.Open(filepath.Join(dir, "expected.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		ids := func(name string) (x []int32) {
			raw, _, err := f.Bytes(name)
			if err != nil {
				t.Fatal(err)
			}
			for ; len(raw) > 0; raw = raw[4:] {
				x = append(x, int32(binary.LittleEndian.Uint32(raw)))
			}
			return x
		}
		want, info, err := f.Float32("logits")
		if err != nil {
			t.Fatal(err)
		}
		got, err := logits(m, slices.Collect(slices.Chunk(ids("tokens"), info.Shape[1])))
		if err != nil {
			t.Fatal(err)
		}
		if d := apart(got, want); !(d <= 2e-5) || math.IsNaN(d) {
			t.Errorf("%s: a logit is %g off", name, d)
		}
		text := ids("greedy")
		tokens, err := greedy(m, text[:8], len(text)-8)
		if err != nil || !slices.Equal(tokens, text[8:]) {
			t.Errorf("%s: greedy tokens %v, want %v (%v)", name, tokens, text[8:], err)
		}
		out := filepath.Join(t.TempDir(), name)
		if _, err := HF(back, Options{Dir: out, DType: "fp32", ShardBytes: 1 << 30}); err != nil {
			t.Fatal(err)
		}
		if v, err := Verify(context.Background(), out, m, "there-is-no-such-python", false); err != nil || len(v.Failed) > 0 {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
		if got, want := bits(t, out), bits(t, dir); !maps.Equal(got, want) {
			t.Errorf("%s: goes out again with other tensors: %v, were %v", name, slices.Sorted(maps.Keys(got)),
				slices.Sorted(maps.Keys(want)))
		}
	}
}

// TestUnknownKeysAreNamed: what config.json says beside what is known here is named, but for what says nothing.
func TestUnknownKeysAreNamed(t *testing.T) {
	dir := changed(t, filepath.Join("testdata", "transformers", "llama"),
		`{"sinks": 4, "gate": "head", "value_residual": true, "clip_qkv": null, "scales": [], "softcap": 0.0}`)
	r, err := Read(dir, filepath.Join(t.TempDir(), "back"), 0)
	if want := []string{"gate", "sinks", "value_residual"}; err != nil || !slices.Equal(r.Unknown, want) {
		t.Errorf("%v are unknown, want %v (%v)", r.Unknown, want, err)
	}
}

// bits are the tensors of a directory's weights, bit for bit.
func bits(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "model*.safetensors"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s has no weights (%v)", dir, err)
	}
	all := map[string]string{}
	for _, path := range paths {
		f, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, name := range f.Names() {
			raw, info, err := f.Bytes(name)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = fmt.Sprint(info.DType, info.Shape) + string(raw)
		}
	}
	return all
}
