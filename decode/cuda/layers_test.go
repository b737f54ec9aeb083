//go:build gpu

package cuda

import (
	"slices"
	"testing"

	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
	"headroom/internal/device"
	"headroom/internal/graph"
)

// TestCUDALayersMayDiffer decodes a model whose layers leave different things in the cache and are served by different
// kernels, in any split, and holds it against the forward pass; and its requests against the CPU.
func TestCUDALayersMayDiffer(t *testing.T) {
	everywhere(t, graph.F32, func(t *testing.T, on decode.Backend) {
		testLayers(t, on, decodetest.Small, decodetest.Wide)
	})
	t.Run("simulated in bf16", func(t *testing.T) {
		testLayers(t, simulate(device.BF16), decodetest.Small, decodetest.Wide)
	})
}

func testLayers(t *testing.T, on decode.Backend, models ...[]decodetest.Layer) {
	for _, layers := range models {
		m := decodetest.Mixed(t, layers...)
		o := decode.Options{Pages: 20, Rows: 4}
		d := openDevice(t, m, on, o)
		texts := decodetest.Texts(m)
		for i, y := range decodetest.Split(t, d, m, 1, texts) {
			decodetest.Near(t, "layers that differ", y, decodetest.Forward(t, m, texts[i]))
		}
		elements := 0
		for i := range layers {
			elements += m.CacheLayout(i).Elements()
		}
		if got, want := d.CacheBytes(), int64(on.ElementBytes()*20*decode.PageTokens*elements); got != want {
			t.Errorf("a pool of %d bytes, the layouts say %d", got, want)
		}
		var out [2][]*decode.Sequence
		for i, b := range []decode.Backend{host.New(), on} {
			e, err := decode.Open(m, b, o)
			if err != nil {
				t.Fatal(err)
			}
			out[i] = serve(t, e, m)
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
		for i, want := range out[0] {
			if got := out[1][i]; !slices.Equal(got.Output(), want.Output()) {
				t.Errorf("request %d: %v, on the CPU %v", i, got.Output(), want.Output())
			}
		}
	}
}

// TestCUDALayersHaveTheirOwnKernels: the kernels of decoding and of training serve the layers that they take, also
// beside others.
func TestCUDALayersHaveTheirOwnKernels(t *testing.T) {
	m := decodetest.Mixed(t, decodetest.Wide...)
	d, err := simulate(device.BF16).plan(m, decode.Limits{Pages: 10, Rows: 4, Tokens: 104, Scores: 4, Context: 256})
	if err != nil {
		t.Fatal(err)
	}
	both := byDecoding | byTraining
	if want := []takes{both, both, 0, both, 0}; !slices.Equal(d.takes, want) {
		t.Errorf("layers are taken by %v, not %v", d.takes, want)
	}
}
