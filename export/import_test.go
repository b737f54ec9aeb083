package export

import (
	"encoding/binary"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"headroom/decode"
	"headroom/internal/safetensors"
)

// TestTransformersModels imports models that the transformers library wrote, by testdata/transformers/gen.py, and
// computes the library's logits and its greedy tokens. They have sharded files, tied embeddings, heads wider than the
// state's share, and DeepSeek-V3's interleaved rotation.
func TestTransformersModels(t *testing.T) {
	for _, name := range []string{"llama", "llama-tied", "deepseek"} {
		dir, back := filepath.Join("testdata", "transformers", name), filepath.Join(t.TempDir(), name)
		if _, err := Read(dir, back, 0); err != nil {
			t.Fatal(err)
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
	}
}
