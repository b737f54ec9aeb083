//go:build gpu

package cuda

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/model"
)

// gpus are the backends, opened once.
var gpus = map[graph.DType]func() (decode.Backend, error){
	graph.F32:  sync.OnceValues(func() (decode.Backend, error) { return New(0, graph.F32, "") }),
	graph.BF16: sync.OnceValues(func() (decode.Backend, error) { return New(0, graph.BF16, "") }),
}

// onGPU skips the test where there is no GPU, and fails it there when HEADROOM_GPU_TESTS=1.
func onGPU(t *testing.T, typ graph.DType) decode.Backend {
	t.Helper()
	b, err := gpus[typ]()
	if err != nil && os.Getenv("HEADROOM_GPU_TESTS") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return b
}

// everywhere runs a test on a simulated device, where all arithmetic is exact, and on a GPU.
func everywhere(t *testing.T, typ graph.DType, test func(t *testing.T, on decode.Backend)) {
	t.Run("simulated", func(t *testing.T) {
		test(t, simulate(map[graph.DType]device.Type{graph.F32: device.F32, graph.BF16: device.BF16}[typ]))
	})
	t.Run("gpu", func(t *testing.T) { test(t, onGPU(t, typ)) })
}

// decodesAsForward holds models against the forward pass, by pieces and steps, on all such devices.
func decodesAsForward(t *testing.T, each func(*testing.T, func(t *testing.T, what string, m *decode.Model))) {
	test := func(t *testing.T, on decode.Backend) {
		each(t, func(t *testing.T, what string, m *decode.Model) {
			d, all := openDevice(t, m, on, decode.Options{Pages: 20, Rows: 4}), decodetest.Texts(m)
			for i, y := range decodetest.Split(t, d, m, 1, all) {
				decodetest.Near(t, what, y, decodetest.Forward(t, m, all[i]))
			}
		})
	}
	everywhere(t, graph.F32, test)
	t.Run("simulated in bf16", func(t *testing.T) { test(t, simulate(device.BF16)) })
}

// isSimulated says that bf16 loses nothing on a backend.
func isSimulated(on decode.Backend) bool { return on.Name() == "simulated" }

// wide gives a model dims that the fast kernels take.
func wide(c *model.Config, a *attention.Config) {
	c.Width, c.MLP, c.Vocab = 128, 192, 320
	a.HeadDim, a.RopeDim = 64, 0
	a.Heads = 4
}

func openDevice(t *testing.T, m *decode.Model, on decode.Backend, o decode.Options) *Device {
	t.Helper()
	l, err := o.Limits(m)
	if err != nil {
		t.Fatal(err)
	}
	l.Scores = l.Tokens
	d, err := on.Open(m, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d.(*Device)
}

func TestCUDAAnySplitIsTheForwardPass(t *testing.T) {
	everywhere(t, graph.F32, func(t *testing.T, on decode.Backend) {
		for _, kind := range decodetest.Kinds {
			for _, f := range []func(*model.Config, *attention.Config){func(*model.Config, *attention.Config) {}, wide} {
				m := decodetest.Tiny(t, kind, f)
				d := openDevice(t, m, on, decode.Options{Pages: 20, Rows: 4})
				for seed := range seeds(on) {
					all := decodetest.Texts(m)
					for i, y := range decodetest.Split(t, d, m, seed, all) {
						decodetest.Near(t, kind, y, decodetest.Forward(t, m, all[i]))
					}
				}
			}
		}
	})
}

// seeds are how many times a test at random is worth: simulated it takes longer.
func seeds(on decode.Backend) uint64 {
	if isSimulated(on) {
		return 1
	}
	return 3
}

// off is the root mean square of the difference, over that of what is right.
func off(got, want []float32) float64 {
	var d, w float64
	for i := range want {
		d += float64(got[i]-want[i]) * float64(got[i]-want[i])
		w += float64(want[i]) * float64(want[i])
	}
	return math.Sqrt(d / w)
}

// TestCUDABF16 allows decoding twice the error that the forward pass in bf16 has.
func TestCUDABF16(t *testing.T) {
	t.Run("simulated", func(t *testing.T) {
		on := simulate(device.BF16)
		for _, kind := range decodetest.Kinds {
			m := decodetest.Tiny(t, kind, wide)
			d, all := openDevice(t, m, on, decode.Options{Pages: 20, Rows: 4}), decodetest.Texts(m)
			for i, y := range decodetest.Split(t, d, m, 1, all) {
				decodetest.Near(t, kind, y, decodetest.Forward(t, m, all[i]))
			}
		}
	})
	t.Run("gpu", testBF16)
}

func testBF16(t *testing.T) {
	on := onGPU(t, graph.BF16)
	b, err := graph.NewCUDA(0, graph.BF16)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, kind := range decodetest.Kinds {
		holdsInBF16(t, kind, decodetest.Tiny(t, kind, wide), on, b)
	}
	for _, norm := range []string{attention.HeadNorm, attention.AllNorm} {
		holdsInBF16(t, "gqa-2 with qk_norm "+norm, decodetest.Tiny(t, "gqa-2", wide, withNorm(norm)), on, b)
	}
}

func holdsInBF16(t *testing.T, what string, m *decode.Model, on decode.Backend, b graph.Backend) {
	d := openDevice(t, m, on, decode.Options{Pages: 20, Rows: 4})
	all := decodetest.Texts(m)
	for seed := range uint64(3) {
		for i, y := range decodetest.Split(t, d, m, seed, all) {
			right, half := decodetest.Forward(t, m, all[i]), decodetest.ForwardOn(t, b, m, all[i])
			if got, allowed := off(y, right), 2*off(half, right); !(got <= allowed) {
				t.Errorf("%s: off by %.2g, the forward pass by %.2g", what, got, allowed/2)
			}
		}
	}
}

// TestCUDAEngine holds requests that come and go at random on the GPU against the CPU, token by token; simulated in
// bf16 too, which has kernels of its own.
func TestCUDAEngine(t *testing.T) {
	test := func(t *testing.T, on decode.Backend) {
		for _, kind := range decodetest.Kinds {
			for _, drafter := range []decode.Drafter{nil, decode.Lookup{Guesses: 3}} {
				m := decodetest.Tiny(t, kind, wide, func(c *model.Config, _ *attention.Config) { c.Context = 150 })
				o := decode.Options{Pages: 9, Rows: 4, Chunk: 40, Ends: []int32{5}, Drafter: drafter}
				onCPU, err := decode.Open(m, host.New(), o)
				if err != nil {
					t.Fatal(err)
				}
				there, err := decode.Open(m, on, o)
				if err != nil {
					t.Fatal(err)
				}
				want, got := serve(t, onCPU, m), serve(t, there, m)
				for i := range want {
					if !slices.Equal(got[i].Output(), want[i].Output()) || got[i].Reason != want[i].Reason {
						t.Errorf("%s: request %d: %v (%s), on the CPU %v (%s)", kind, i, got[i].Output(), got[i].Reason,
							want[i].Output(), want[i].Reason)
					}
				}
				if err := there.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	everywhere(t, graph.F32, test)
	t.Run("simulated in bf16", func(t *testing.T) { test(t, simulate(device.BF16)) })
}

// serve submits requests at random and steps until all are done.
func serve(t *testing.T, e *decode.Engine, m *decode.Model) (all []*decode.Sequence) {
	t.Helper()
	r := rand.New(rand.NewPCG(6, 6))
	for len(all) < 12 || e.Busy() {
		if len(all) < 12 && r.IntN(3) == 0 {
			q := decode.Request{Prompt: decodetest.Tokens(r, 1+r.IntN(100), m.Config.Vocab), MaxTokens: 1 + r.IntN(30)}
			if r.IntN(3) == 0 {
				q.Sampling = decode.Sampling{Temperature: 1, TopK: 20, TopP: 0.9, MinP: 0.01, Repetition: 1.2, Seed: r.Uint64()}
			}
			all = append(all, decodetest.Submit(t, e, q))
		}
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
	}
	if e.FreePages() != e.Usage().Pages {
		t.Fatalf("%d of %d pages came back", e.FreePages(), e.Usage().Pages)
	}
	return all
}

// TestCUDARowAloneEqualsRowInBatch in bf16, where kernels may add in another order by the
// size of the batch: no further apart than the type is from what is right.
func TestCUDARowAloneEqualsRowInBatch(t *testing.T) {
	everywhere(t, graph.BF16, testRowAlone)
}

func testRowAlone(t *testing.T, on decode.Backend) {
	for _, kind := range decodetest.Kinds {
		m := decodetest.Tiny(t, kind, wide)
		V := m.Config.Vocab
		d := openDevice(t, m, on, decode.Options{Pages: 40, Rows: 16, Chunk: 400})
		r, p := rand.New(rand.NewPCG(2, 9)), decodetest.Scattered(rand.New(rand.NewPCG(2, 2)), 40)
		tokens := decodetest.Tokens(r, 100, m.Config.Vocab)
		var first, alone, fill, batch decode.Batch
		pages := p.Take(t, 2*decode.PageTokens)
		first.Add(pages, 0, tokens[:99], 1)
		decodetest.Pass(t, d, first)
		alone.Add(pages, 99, tokens[99:], 1)
		y := decodetest.Pass(t, d, alone)
		allowed := 1e-5
		if !isSimulated(on) {
			allowed = off(y, decodetest.Forward(t, m, tokens)[99*V:])
		}
		for n := range 9 {
			others := p.Take(t, 2*decode.PageTokens)
			fill.Add(others, 0, decodetest.Tokens(r, 30+n, m.Config.Vocab), 1)
			if n == 5 {
				batch.Add(pages, 99, tokens[99:], 1)
			}
			batch.Add(others, 30+n, []int32{int32(n)}, 1)
		}
		decodetest.Pass(t, d, fill)
		for range 3 { // as it comes, recorded, and again
			z := decodetest.Pass(t, d, batch)
			if got := off(z[5*V:6*V], y); !(got < allowed) {
				t.Errorf("%s: off by %g, at most %g", kind, got, allowed)
			}
		}
	}
}

// TestCUDAAvailableIsTrue opens the largest batch that is said to fit, and finds no room for a tenth more of cache.
func TestCUDAAvailableIsTrue(t *testing.T) {
	t.Run("simulated", func(t *testing.T) { testAvailable(t, simulateLittle(device.BF16, 30<<20)) })
	t.Run("gpu", func(t *testing.T) { testAvailable(t, onGPU(t, graph.BF16)) })
}

func testAvailable(t *testing.T, on decode.Backend) {
	m := decodetest.Tiny(t, "gqa-2", wide)
	if !isSimulated(on) {
		m.Config.Context = 1 << 16 // thousands of requests, not more than a launch takes
	}
	largest, err := decode.Largest(m, on, decode.Options{}, m.Config.Context)
	if err != nil {
		t.Fatal(err)
	}
	if largest < 10 {
		t.Fatalf("%d requests are said to fit", largest)
	}
	for _, c := range []struct {
		share float64
		ok    bool
	}{{1, true}, {1.1, false}} {
		o := decode.Options{Rows: largest, Pages: int(float64(largest*decode.PagesFor(m.Config.Context)) * c.share)}
		e, err := decode.Open(m, on, o)
		if (err == nil) != c.ok {
			t.Errorf("%.1f of %d requests: %v", c.share, largest, err)
		}
		if err != nil {
			continue
		}
		for range largest {
			decodetest.Submit(t, e, decode.Request{Prompt: []int32{1}, MaxTokens: m.Config.Context})
		}
		for range 3 {
			if err := e.Step(); err != nil {
				t.Fatal(err)
			}
		}
		if e.Usage().Running != largest {
			t.Errorf("%d requests run, %d are said to fit", e.Usage().Running, largest)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
