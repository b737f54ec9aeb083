package decode

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/internal/graph"
	"headroom/model"
)

// kinds names them all, with two groups.
var kinds = func() (names []string) {
	for _, d := range attention.Descriptions {
		names = append(names, d.Name(2))
	}
	return names
}()

// tiny is a model whose biases and norms differ from where training starts, so that each of them counts.
func tiny(t *testing.T, kind string, change ...func(*model.Config, *attention.Config)) *Model {
	t.Helper()
	c, a := model.Default(), attention.Default()
	c.Layers, c.Width, c.MLP, c.Vocab, c.Context, c.Tie = 2, 32, 48, 37, 256, false
	a.Heads, a.HeadDim, a.RopeTheta = 4, 8, 500 // a base that nothing has by itself
	var err error
	if a.Kind, a.Groups, err = attention.Parse(kind); err != nil {
		t.Fatal(err)
	}
	if d, err := a.Kind.Describe(); err == nil && d.Cache == attention.Latent {
		a.RopeDim = 4
	}
	for _, f := range change {
		f(&c, &a)
	}
	tr, err := model.New(c, a)
	if err != nil {
		t.Fatal(err)
	}
	m := Random(tr, 7)
	r := rand.New(rand.NewPCG(1, 2))
	size := min(0.3, 0.3*math.Sqrt(32/float64(c.Width))) // so that scores do not grow with the width
	for _, p := range tr.Params() {
		for i := range m.Weights[p.Name] {
			m.Weights[p.Name][i] += float32(size * r.NormFloat64())
		}
	}
	return m
}

// forward is the training pass over one sequence: logits [T, V].
func forward(t *testing.T, m *Model, tokens []int32) []float32 {
	t.Helper()
	return forwardOn(t, graph.NewCPU(), m, tokens)
}

func forwardOn(t *testing.T, b graph.Backend, m *Model, tokens []int32) []float32 {
	t.Helper()
	store, err := graph.NewStore(b, m.Params())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for name, w := range m.Weights {
		if err := store.Set(name, w); err != nil {
			t.Fatal(err)
		}
	}
	prog, err := graph.Compile(store, 1, len(tokens), func(b *graph.Builder) []*graph.Node {
		return []*graph.Node{m.Logits(b, b.Tokens("tokens"))}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	if err := prog.SetTokens("tokens", tokens); err != nil {
		t.Fatal(err)
	}
	if err := prog.RunAll(); err != nil {
		t.Fatal(err)
	}
	y, err := prog.Output(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return y
}

// logits runs a pass on the CPU and returns all that it scores: [scored, V].
func logits(t *testing.T, d *CPU, b Batch) []float32 {
	t.Helper()
	if err := d.Pass(b); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Tokens(); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(d.logits)
}

func randomTokens(r *rand.Rand, n, vocab int) []int32 {
	x := make([]int32, n)
	for i := range x {
		x[i] = int32(r.IntN(vocab))
	}
	return x
}

// near compares logits: rounding of a few float32 sums, beside their size.
func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d logits, not %d", what, len(got), len(want))
	}
	var most, size float64
	for i := range want {
		most = max(most, math.Abs(float64(got[i]-want[i])))
		size = max(size, math.Abs(float64(want[i])))
		if got[i] != got[i] {
			most = math.Inf(1)
		}
	}
	if most > 5e-5*size {
		t.Errorf("%s: logits differ by %g of %g", what, most, size)
	}
}

// scattered are pages in random order.
func scattered(r *rand.Rand, pages int) *pool {
	p := newPool(pages)
	r.Shuffle(pages, func(i, j int) { p.free[i], p.free[j] = p.free[j], p.free[i] })
	return p
}

// TestAnySplitIsTheForwardPass cuts sequences at random into chunks and steps, three requests side by side, each at its own
// pace, in pages at random places.
func TestAnySplitIsTheForwardPass(t *testing.T) {
	for _, kind := range kinds {
		for _, bias := range []string{"paper", "none"} {
			m := tiny(t, kind, func(_ *model.Config, a *attention.Config) { a.Bias = bias })
			r := rand.New(rand.NewPCG(3, uint64(len(kind))))
			d, p := NewCPU(m, 20), scattered(r, 20)
			V := m.Config.Vocab
			type request struct {
				tokens []int32
				pages  []int32
				done   int
				got    []float32
			}
			var all []*request
			for _, n := range []int{1, 150, 65} {
				pages, ok := p.take(pagesFor(n))
				if !ok {
					t.Fatal("no pages")
				}
				all = append(all, &request{tokens: randomTokens(r, n, V), pages: pages})
			}
			for left := true; left; {
				var b Batch
				var rows []*request
				for _, q := range all {
					n := min(len(q.tokens)-q.done, []int{0, 1, 1, 2, 17, 70}[r.IntN(6)])
					if n == 0 {
						continue
					}
					b.add(q.pages, q.done, q.tokens[q.done:q.done+n], n)
					q.done += n
					rows = append(rows, q)
				}
				left = false
				for _, q := range all {
					left = left || q.done < len(q.tokens)
				}
				if len(rows) == 0 {
					continue
				}
				y := logits(t, d, b)
				for i, q := range rows {
					q.got = append(q.got, y[b.Rows[i].From*V:(b.Rows[i].From+b.Rows[i].T)*V]...)
				}
			}
			for _, q := range all {
				near(t, kind+" bias "+bias, q.got, forward(t, m, q.tokens))
			}
		}
	}
}

// TestTiles reaches over several tiles of cached tokens.
func TestTiles(t *testing.T) {
	m := tiny(t, "gla-2", func(c *model.Config, _ *attention.Config) { c.Layers = 1 })
	r := rand.New(rand.NewPCG(5, 5))
	tokens := randomTokens(r, 2*tileTokens+100, m.Config.Vocab)
	p := scattered(r, pagesFor(len(tokens)))
	d := NewCPU(m, p.total)
	pages, _ := p.take(p.total)
	V, got := m.Config.Vocab, []float32(nil)
	for from := 0; from < len(tokens); from += 300 {
		var b Batch
		part := tokens[from:min(from+300, len(tokens))]
		b.add(pages, from, part, len(part))
		got = append(got, logits(t, d, b)[:len(part)*V]...)
	}
	near(t, "three tiles", got, forward(t, m, tokens))
}

func TestCacheBytesAreTheLayouts(t *testing.T) {
	for kind, elements := range map[string]int{"mha": 64, "mqa": 16, "gqa-2": 32, "gta-2": 20, "mla": 36, "gla-2": 36, "gla_q-2": 36} {
		m := tiny(t, kind)
		fit := Fit(m.Transformer, 1<<20, 4)
		want := int64(fit.Pages * PageTokens * m.Config.Layers * elements * 4)
		if got := NewCPU(m, fit.Pages).CacheBytes(); got != want || fit.Bytes != want || want > 1<<20 || fit.TokenBytes != 2*4*elements {
			t.Errorf("%s: pool of %d bytes, %+v, the layout says %d", kind, got, fit, want)
		}
	}
}
