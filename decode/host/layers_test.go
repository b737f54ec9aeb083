package host_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
)

// TestLayersMayDiffer decodes a model whose layers leave different things in the cache, in any split, and holds it
// against the forward pass. The pool is as large as the layouts of all layers say.
func TestLayersMayDiffer(t *testing.T) {
	for _, layers := range [][]decodetest.Layer{decodetest.Small, decodetest.Wide} {
		m := decodetest.Mixed(t, layers...)
		d := host.NewDevice(m, 20)
		for seed := range uint64(3) {
			texts := decodetest.Texts(m)
			for i, y := range decodetest.Split(t, d, m, seed, texts) {
				decodetest.Near(t, "layers that differ", y, decodetest.Forward(t, m, texts[i]))
			}
		}
		elements := 0
		for i := range layers {
			elements += m.CacheLayout(i).Elements()
		}
		if got, want := d.CacheBytes(), int64(4*20*decode.PageTokens*elements); got != want ||
			m.CacheBytes(1, attention.FP32) != 4*elements {
			t.Errorf("a pool of %d bytes, the layouts say %d; %d bytes a token", got, want, m.CacheBytes(1, attention.FP32))
		}
	}
}

// TestLayersMayDifferInShards serves such a model whole and in two parts.
func TestLayersMayDifferInShards(t *testing.T) {
	m := decodetest.Mixed(t, decodetest.Small...)
	var want [][]int32
	for _, parts := range []int{1, 2} {
		e, err := decode.Open(m, host.Sharded(parts, attention.FP32), decode.Options{Pages: 20, Rows: 5, Chunk: 30})
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(2, 3))
		var all []*decode.Sequence
		for range 8 {
			all = append(all, decodetest.Submit(t, e,
				decode.Request{Prompt: decodetest.Tokens(r, 1+r.IntN(90), m.Config.Vocab), MaxTokens: 12}))
		}
		decodetest.Finish(t, e)
		for i, s := range all {
			if parts == 1 {
				want = append(want, s.Output())
			} else if !slices.Equal(s.Output(), want[i]) {
				t.Errorf("request %d in two parts: %v, whole %v", i, s.Output(), want[i])
			}
		}
	}
}
