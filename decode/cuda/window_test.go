//go:build gpu

package cuda

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/model"
)

// TestCUDAWindows decodes texts in any split over the edges of windows, and requests of many windows by pools of pages
// for the tails of sequences, and holds them against the forward pass and against the CPU.
func TestCUDAWindows(t *testing.T) {
	everywhere(t, graph.F32, testWindows)
	t.Run("simulated in bf16", func(t *testing.T) { testWindows(t, simulate(device.BF16)) })
}

func testWindows(t *testing.T, on decode.Backend) {
	for i, kind := range decodetest.Kinds {
		window := []int{1, 64, 65, 100, 130}[i%5]
		what := fmt.Sprintf("%s in a window of %d", kind, window)
		m := decodetest.Windowed(t, kind, window)
		texts := decodetest.Texts(m)
		d := openDevice(t, m, on, decode.Options{Pages: 20, Tail: 20, Rows: 4})
		for n, y := range decodetest.Split(t, tailed{d}, m, uint64(i), texts) {
			decodetest.Near(t, what, y, decodetest.Forward(t, m, texts[n]))
		}
		m.Config.Context = 700
		r := rand.New(rand.NewPCG(1, uint64(i)))
		begin := decodetest.Tokens(r, 500, m.Config.Vocab)
		var out [2][]*decode.Sequence
		for j, b := range []decode.Backend{host.New(), on} {
			r := rand.New(rand.NewPCG(2, uint64(i)))
			o := decode.Options{Pages: 30, Tail: 10, Rows: 4, Chunk: 300}
			if i%3 == 0 {
				o.Drafter = decode.Lookup{Guesses: 2}
			}
			e, err := decode.Open(m, b, o)
			if err != nil {
				t.Fatal(err)
			}
			for range 5 {
				prompt := append(slices.Clone(begin[:r.IntN(500)]), decodetest.Tokens(r, 1+r.IntN(40), m.Config.Vocab)...)
				out[j] = append(out[j], decodetest.Submit(t, e, decode.Request{Prompt: prompt, MaxTokens: 1 + r.IntN(30)}))
			}
			decodetest.Finish(t, e)
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
		for n, want := range out[0] {
			if got := out[1][n]; !slices.Equal(got.Output(), want.Output()) {
				t.Errorf("%s: request %d: %v, on the CPU %v", what, n, got.Output(), want.Output())
			}
		}
	}
}

// tailed gives every row the pages of its full layers as those of layers with windows too.
type tailed struct{ decode.Device }

func (d tailed) Pass(b decode.Batch) error {
	b.Rows = slices.Clone(b.Rows)
	for i := range b.Rows {
		b.Rows[i].Tail = slices.Clone(b.Rows[i].Pages)
	}
	return d.Device.Pass(b)
}

// TestCUDAWindowLayersAreServedPlainly: no kernel that would read all of the cache serves a layer with a window, and
// the pool of such layers is as large as it is said to be.
func TestCUDAWindowLayersAreServedPlainly(t *testing.T) {
	m := decodetest.Tiny(t, "gqa-2", func(c *model.Config, a *attention.Config) {
		c.Layers, a.HeadDim, a.Window, a.Pattern = 3, 64, 70, "window,full"
	})
	l := decode.Limits{Pages: 10, Tail: 3, Rows: 4, Tokens: 104, Scores: 4, Context: 256}
	d, err := simulate(device.BF16).plan(m, l)
	if err != nil {
		t.Fatal(err)
	}
	if want := []takes{0, byDecoding | byTraining, 0}; !slices.Equal(d.takes, want) {
		t.Errorf("layers are taken by %v", d.takes)
	}
	token := int64(2 * m.CacheLayout(0).Elements())
	if got, want := d.CacheBytes(), decode.PageTokens*token*(10+2*3); got != want {
		t.Errorf("the pools take %d bytes, not %d", got, want)
	}
}
