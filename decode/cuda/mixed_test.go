//go:build gpu

package cuda

import (
	"math"
	"math/rand/v2"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/kernels"
	"headroom/model"
)

// TestCUDAMixedPass takes a long prompt in while other requests decode. All requests of one new token attend in one
// launch of the decode kernel, wherever they stand in the pass, and a chunk behind cached tokens computes its own rows
// only.
func TestCUDAMixedPass(t *testing.T) {
	for _, kind := range []string{"gqa-2", "gta-2", "mla", "gla-2"} {
		t.Run(kind, func(t *testing.T) {
			m := decodetest.Tiny(t, kind, wide, func(c *model.Config, _ *attention.Config) { c.Layers, c.Context = 1, 512 })
			o := decode.Options{Pages: 40, Rows: 8, Chunk: 128}
			d := openDevice(t, m, simulate(device.BF16), o)
			e, err := decode.NewEngine(m, d, o)
			if err != nil {
				t.Fatal(err)
			}
			var few []*kernels.Decode
			var long []*kernels.Attention
			d.queue.(*simulated).seen = func(k launcher) {
				switch k := k.(type) {
				case *kernels.DecodePlain:
					t.Errorf("%d rows attend by the plain kernel", k.N)
				case *kernels.Decode:
					few = append(few, k)
				case *kernels.Attention:
					long = append(long, k)
				}
			}
			r := rand.New(rand.NewPCG(1, 1))
			requests := []int{300, 3, 5, 2, 400, 4}
			var all []*decode.Sequence
			for _, n := range requests {
				all = append(all, decodetest.Submit(t, e,
					decode.Request{Prompt: decodetest.Tokens(r, n, m.Config.Vocab), MaxTokens: 20}))
			}
			behind := 0
			for all[4].Cached() < 400 {
				few, long = nil, nil
				ones := 0
				for _, s := range all {
					if s.Cached() > 0 && len(s.Tokens)-s.Cached() == 1 {
						ones++
					}
				}
				if err := e.Step(); err != nil {
					t.Fatal(err)
				}
				if ones > 0 && (len(few) == 0 || few[0].T != 1 || few[0].B != ones) {
					t.Fatalf("%d requests of one token, the first launch of decode attention has %+v", ones, few)
				}
				for _, k := range long {
					if k.T >= 128+startTokens {
						t.Errorf("%d rows of queries for a chunk of at most 128 tokens", k.T)
					}
					if k.Start > 0 {
						behind++
					}
				}
			}
			if behind == 0 {
				t.Error("no chunk came behind cached tokens")
			}
			decodetest.Finish(t, e)
		})
	}
}

// TestCUDAChunks holds prompts taken in by chunks of odd sizes against the CPU, simulated in both types and on a GPU in
// float32: starts that are no multiple of a tile's.
func TestCUDAChunks(t *testing.T) {
	everywhere(t, graph.F32, checkChunks)
	t.Run("simulated in bf16", func(t *testing.T) { checkChunks(t, simulate(device.BF16)) })
}

func checkChunks(t *testing.T, on decode.Backend) {
	for _, kind := range []string{"gqa-2", "gta-2", "mla", "gla-2"} {
		m := decodetest.Tiny(t, kind, wide, func(c *model.Config, _ *attention.Config) { c.Layers, c.Context = 2, 512 })
		for _, chunk := range []int{37, 64, 200} {
			var out [2][]*decode.Sequence
			for i, b := range []decode.Backend{host.New(), on} {
				e, err := decode.Open(m, b, decode.Options{Pages: 20, Rows: 3, Chunk: chunk})
				if err != nil {
					t.Fatal(err)
				}
				r := rand.New(rand.NewPCG(uint64(chunk), 2))
				for _, n := range []int{300, 17, 205} {
					out[i] = append(out[i], decodetest.Submit(t, e, decode.Request{Prompt: decodetest.Tokens(r, n, m.Config.Vocab),
						MaxTokens: 4, Score: true}))
				}
				decodetest.Finish(t, e)
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
			}
			for i, want := range out[0] {
				got, want := float64(out[1][i].Scores[0].LogProb), float64(want.Scores[0].LogProb)
				if !(math.Abs(got-want) < 1e-3) {
					t.Errorf("%s in chunks of %d: request %d's first token has log p %v, on the CPU %v", kind, chunk, i, got, want)
				}
			}
		}
	}
}
