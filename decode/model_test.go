package decode_test

import (
	"runtime"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/model"
)

// TestLoadHoldsOneCopy loads a checkpoint: the weights are the very values that were saved, and reading them takes room
// for what the file has, once as bytes and once as numbers.
func TestLoadHoldsOneCopy(t *testing.T) {
	m := decodetest.Tiny(t, "gla-2", func(c *model.Config, a *attention.Config) {
		c.Width, c.MLP, c.Vocab = 256, 512, 1000
	})
	dir, bytes := t.TempDir(), uint64(0)
	value := func(name string) ([]float32, error) { return m.Weights[name], nil }
	if err := m.Write(dir, value, map[string]string{"tokenizer": "bytes"}); err != nil {
		t.Fatal(err)
	}
	for _, w := range m.Weights {
		bytes += 4 * uint64(len(w))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := decode.Load(dir)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if got.Tokenizer != "bytes" || len(got.Weights) != len(m.Weights) {
		t.Errorf("%d weights, tokenizer %q", len(got.Weights), got.Tokenizer)
	}
	for name, w := range m.Weights {
		if !slices.Equal(got.Weights[name], w) {
			t.Errorf("%s came back changed", name)
		}
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > bytes*5/2 {
		t.Errorf("loading %d bytes of weights took %d", bytes, took)
	}
}
