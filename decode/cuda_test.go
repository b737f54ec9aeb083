//go:build gpu

package decode

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"headroom/attention"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/model"
)

// gpus are the backends, opened once.
var gpus = map[graph.DType]func() (Backend, error){
	graph.F32:  sync.OnceValues(func() (Backend, error) { return OnCUDA(0, graph.F32) }),
	graph.BF16: sync.OnceValues(func() (Backend, error) { return OnCUDA(0, graph.BF16) }),
}

// onGPU skips the test where there is no GPU, and fails it there when HEADROOM_GPU_TESTS=1.
func onGPU(t *testing.T, typ graph.DType) Backend {
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

// everywhere runs a test on paper, where all arithmetic is exact, and on a GPU.
func everywhere(t *testing.T, typ graph.DType, test func(t *testing.T, on Backend)) {
	t.Run("paper", func(t *testing.T) {
		test(t, onPaper(map[graph.DType]device.Type{graph.F32: device.F32, graph.BF16: device.BF16}[typ]))
	})
	t.Run("gpu", func(t *testing.T) { test(t, onGPU(t, typ)) })
}

// isPaper says that bf16 loses nothing on a backend.
func isPaper(on Backend) bool { return on.Name() == "paper" }

// wide gives a model dims that the fast kernels take.
func wide(c *model.Config, a *attention.Config) {
	c.Width, c.MLP, c.Vocab = 128, 192, 320
	a.HeadDim, a.RopeDim = 64, 0
	a.Heads = 4
}

func openCUDA(t *testing.T, m *Model, on Backend, o Options) *CUDA {
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
	return d.(*CUDA)
}

// pass runs a pass on any device and returns all that it scores.
func pass(t *testing.T, d Device, b Batch) (y []float32) {
	t.Helper()
	if err := d.Pass(b); err != nil {
		t.Fatal(err)
	}
	tokens, err := d.Tokens()
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Score {
		l, err := d.Scores(i)
		if err != nil {
			t.Fatal(err)
		}
		best := 0
		for j := range l {
			if l[j] > l[best] {
				best = j
			}
		}
		if int(tokens[i]) != best {
			t.Errorf("score %d: drew %d, the largest is %d", i, tokens[i], best)
		}
		y = append(y, l...)
	}
	return y
}

// split cuts three sequences at random into chunks and steps, side by side, each at its own pace.
func split(t *testing.T, d Device, m *Model, seed uint64, texts [][]int32) [][]float32 {
	t.Helper()
	r, p, V := rand.New(rand.NewPCG(3, seed)), scattered(rand.New(rand.NewPCG(1, seed)), 20), m.Config.Vocab
	pages, done, got := make([][]int32, len(texts)), make([]int, len(texts)), make([][]float32, len(texts))
	for i := range texts {
		pages[i], _ = p.take(pagesFor(len(texts[i])))
	}
	for {
		var b Batch
		var rows []int
		same := r.IntN(2) == 0 // a step of one token each
		for i, text := range texts {
			n := min(len(text)-done[i], []int{0, 1, 1, 2, 17, 70}[r.IntN(6)])
			if same {
				n = min(len(text)-done[i], 1)
			}
			if n > 0 {
				b.add(pages[i], done[i], text[done[i]:done[i]+n], n)
				done[i] += n
				rows = append(rows, i)
			}
		}
		if len(rows) > 0 {
			y := pass(t, d, b)
			for j, i := range rows {
				got[i] = append(got[i], y[b.Rows[j].From*V:(b.Rows[j].From+b.Rows[j].T)*V]...)
			}
		}
		left := 0
		for i := range texts {
			left += len(texts[i]) - done[i]
		}
		if left == 0 {
			return got
		}
	}
}

func texts(m *Model) (all [][]int32) {
	r := rand.New(rand.NewPCG(4, 4))
	for _, n := range []int{1, 150, 65, 200} {
		all = append(all, randomTokens(r, n, m.Config.Vocab))
	}
	return all
}

func TestCUDAAnySplitIsTheForwardPass(t *testing.T) {
	everywhere(t, graph.F32, func(t *testing.T, on Backend) {
		for _, kind := range kinds {
			for _, f := range []func(*model.Config, *attention.Config){func(*model.Config, *attention.Config) {}, wide} {
				m := tiny(t, kind, f)
				d := openCUDA(t, m, on, Options{Pages: 20, Rows: 4})
				for seed := range seeds(on) {
					all := texts(m)
					for i, y := range split(t, d, m, seed, all) {
						near(t, kind, y, forward(t, m, all[i]))
					}
				}
			}
		}
	})
}

// seeds are how many times a test at random is worth: on paper it takes longer.
func seeds(on Backend) uint64 {
	if isPaper(on) {
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
	t.Run("paper", func(t *testing.T) {
		on := onPaper(device.BF16)
		for _, kind := range kinds {
			m := tiny(t, kind, wide)
			d, all := openCUDA(t, m, on, Options{Pages: 20, Rows: 4}), texts(m)
			for i, y := range split(t, d, m, 1, all) {
				near(t, kind, y, forward(t, m, all[i]))
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
	for _, kind := range kinds {
		m := tiny(t, kind, wide)
		d := openCUDA(t, m, on, Options{Pages: 20, Rows: 4})
		all := texts(m)
		for seed := range uint64(3) {
			for i, y := range split(t, d, m, seed, all) {
				right, half := forward(t, m, all[i]), forwardOn(t, b, m, all[i])
				if got, allowed := off(y, right), 2*off(half, right); !(got <= allowed) {
					t.Errorf("%s: off by %.2g, the forward pass by %.2g", kind, got, allowed/2)
				}
			}
		}
	}
}

// TestCUDAEngine holds requests that come and go at random on the GPU against the CPU, token by token; on paper in bf16 too,
// which has kernels of its own.
func TestCUDAEngine(t *testing.T) {
	test := func(t *testing.T, on Backend) {
		for _, kind := range kinds {
			for _, drafter := range []Drafter{nil, Lookup{3}} {
				m := tiny(t, kind, wide, func(c *model.Config, _ *attention.Config) { c.Context = 150 })
				o := Options{Pages: 9, Rows: 4, Chunk: 40, Ends: []int32{5}, Drafter: drafter}
				onCPU, err := Open(m, OnCPU(), o)
				if err != nil {
					t.Fatal(err)
				}
				there, err := Open(m, on, o)
				if err != nil {
					t.Fatal(err)
				}
				want, got := serve(t, onCPU, m), serve(t, there, m)
				for i := range want {
					if !slices.Equal(got[i].Output(), want[i].Output()) || got[i].Reason != want[i].Reason {
						t.Errorf("%s: request %d: %v (%s), on the CPU %v (%s)", kind, i, got[i].Output(), got[i].Reason, want[i].Output(), want[i].Reason)
					}
				}
				if err := there.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	everywhere(t, graph.F32, test)
	t.Run("paper in bf16", func(t *testing.T) { test(t, onPaper(device.BF16)) })
}

// serve submits requests at random and steps until all are done.
func serve(t *testing.T, e *Engine, m *Model) (all []*Sequence) {
	t.Helper()
	r := rand.New(rand.NewPCG(6, 6))
	for len(all) < 12 || e.Busy() {
		if len(all) < 12 && r.IntN(3) == 0 {
			q := Request{Prompt: randomTokens(r, 1+r.IntN(100), m.Config.Vocab), MaxTokens: 1 + r.IntN(30)}
			if r.IntN(3) == 0 {
				q.Sampling = Sampling{Temperature: 1, TopK: 20, TopP: 0.9, MinP: 0.01, Repetition: 1.2, Seed: r.Uint64()}
			}
			all = append(all, submit(t, e, q))
		}
		if err := e.Step(); err != nil {
			t.Fatal(err)
		}
	}
	if e.FreePages() != e.options.Pages {
		t.Fatalf("%d of %d pages came back", e.FreePages(), e.options.Pages)
	}
	return all
}

// TestCUDARowAloneEqualsRowInBatch in bf16, where kernels may add in another order by the
// size of the batch: no further apart than the type is from what is right.
func TestCUDARowAloneEqualsRowInBatch(t *testing.T) {
	everywhere(t, graph.BF16, testRowAlone)
}

func testRowAlone(t *testing.T, on Backend) {
	for _, kind := range kinds {
		m := tiny(t, kind, wide)
		V := m.Config.Vocab
		d := openCUDA(t, m, on, Options{Pages: 40, Rows: 16, Chunk: 400})
		r, p := rand.New(rand.NewPCG(2, 9)), scattered(rand.New(rand.NewPCG(2, 2)), 40)
		tokens := randomTokens(r, 100, m.Config.Vocab)
		var first, alone, fill, batch Batch
		pages, _ := p.take(2)
		first.add(pages, 0, tokens[:99], 1)
		pass(t, d, first)
		alone.add(pages, 99, tokens[99:], 1)
		y := pass(t, d, alone)
		allowed := 1e-5
		if !isPaper(on) {
			allowed = off(y, forward(t, m, tokens)[99*V:])
		}
		for n := range 9 {
			others, _ := p.take(2)
			fill.add(others, 0, randomTokens(r, 30+n, m.Config.Vocab), 1)
			if n == 5 {
				batch.add(pages, 99, tokens[99:], 1)
			}
			batch.add(others, 30+n, []int32{int32(n)}, 1)
		}
		pass(t, d, fill)
		for range 3 { // as it comes, recorded, and again
			z := pass(t, d, batch)
			if got := off(z[5*V:6*V], y); !(got < allowed) {
				t.Errorf("%s: off by %g, at most %g", kind, got, allowed)
			}
		}
	}
}

// TestCUDAAvailableIsTrue opens the largest batch that is said to fit, and finds no room for a tenth more of cache.
func TestCUDAAvailableIsTrue(t *testing.T) {
	t.Run("paper", func(t *testing.T) { testAvailable(t, onLittlePaper(device.BF16, 30<<20)) })
	t.Run("gpu", func(t *testing.T) { testAvailable(t, onGPU(t, graph.BF16)) })
}

func testAvailable(t *testing.T, on Backend) {
	m := tiny(t, "gqa-2", wide)
	if !isPaper(on) {
		m.Config.Context = 1 << 16 // thousands of requests, not more than a launch takes
	}
	largest, err := Largest(m, on, Options{}, m.Config.Context)
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
		o := Options{Rows: largest, Pages: int(float64(largest*pagesFor(m.Config.Context)) * c.share)}
		e, err := Open(m, on, o)
		if (err == nil) != c.ok {
			t.Errorf("%.1f of %d requests: %v", c.share, largest, err)
		}
		if err != nil {
			continue
		}
		for range largest {
			submit(t, e, Request{Prompt: []int32{1}, MaxTokens: m.Config.Context})
		}
		for range 3 {
			if err := e.Step(); err != nil {
				t.Fatal(err)
			}
		}
		if len(e.running) != largest {
			t.Errorf("%d requests run, %d are said to fit", len(e.running), largest)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
