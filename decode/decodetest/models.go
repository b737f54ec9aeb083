// Package decodetest is what the tests of decoding share: models of random weights, the training pass that decoding
// must agree with, and requests that come and go at random.
package decodetest

import (
	"math"
	"math/rand/v2"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/graph"
	"headroom/model"
)

// Kinds names them all, with two groups.
var Kinds = func() (names []string) {
	for _, d := range attention.Descriptions {
		names = append(names, d.Name(2))
	}
	return names
}()

// Tiny is a model whose biases and norms differ from where training starts, so that each of them counts.
func Tiny(t testing.TB, kind string, change ...func(*model.Config, *attention.Config)) *decode.Model {
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
	return Weighted(tr)
}

// Windowed is Tiny of three layers, of which the second is full and the others have a window and, from a window of 64
// on, a rotary base of their own.
func Windowed(t testing.TB, kind string, window int) *decode.Model {
	t.Helper()
	return Tiny(t, kind, func(c *model.Config, a *attention.Config) {
		c.Layers, a.Window, a.Pattern = 3, window, "window,full"
		if window >= 64 {
			a.WindowRopeTheta = 3000
		}
	})
}

// Weighted gives a model such weights.
func Weighted(tr *model.Transformer) *decode.Model {
	m := decode.Random(tr, 7)
	r := rand.New(rand.NewPCG(1, 2))
	size := min(0.3, 0.3*math.Sqrt(32/float64(tr.Config.Width))) // so that scores do not grow with the width
	for _, p := range tr.Params() {
		for i := range m.Weights[p.Name] {
			m.Weights[p.Name][i] += float32(size * r.NormFloat64())
		}
	}
	return m
}

// Forward is the training pass over one sequence: logits [T, V].
func Forward(t testing.TB, m *decode.Model, tokens []int32) []float32 {
	t.Helper()
	return ForwardOn(t, graph.NewCPU(), m, tokens)
}

// ForwardOn is Forward on a backend.
func ForwardOn(t testing.TB, b graph.Backend, m *decode.Model, tokens []int32) []float32 {
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

// Tokens are n random ones.
func Tokens(r *rand.Rand, n, vocab int) []int32 {
	x := make([]int32, n)
	for i := range x {
		x[i] = int32(r.IntN(vocab))
	}
	return x
}

// Near compares logits: rounding of a few float32 sums, beside their size.
func Near(t testing.TB, what string, got, want []float32) {
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

// Mixed is a model whose layers differ: in their kind, in their heads and dims, in the base of their rotations, and so
// in what they leave in the cache.
func Mixed(t testing.TB, layers ...Layer) *decode.Model {
	t.Helper()
	c := model.Default()
	c.Layers, c.Width, c.MLP, c.Vocab, c.Context, c.Tie = len(layers), 32, 48, 37, 256, false
	var pattern []attention.Config
	for _, l := range layers {
		a := attention.Default()
		a.Heads, a.HeadDim, a.RopeTheta, a.RopeDim = l.Heads, l.HeadDim, l.Theta, l.RopeDim
		var err error
		if a.Kind, a.Groups, err = attention.Parse(l.Kind); err != nil {
			t.Fatal(err)
		}
		pattern = append(pattern, a)
	}
	tr, err := model.Patterned(c, pattern)
	if err != nil {
		t.Fatal(err)
	}
	return Weighted(tr)
}

// A Layer is one of a Mixed model.
type Layer struct {
	Kind           string
	Heads, HeadDim int
	RopeDim        int // 0 is the kind's default
	Theta          float64
}

// Small are layers of no more columns than a test needs, and Wide some of which have dims that the fast kernels take.
var (
	Small = []Layer{{"gqa-2", 4, 8, 8, 500}, {"mla", 4, 8, 4, 3000}, {"mfa", 2, 16, 8, 3000}, {"gta-2", 4, 16, 4, 500},
		{"gla-2", 8, 8, 4, 500}}
	Wide = []Layer{{"gla-2", 4, 64, 32, 500}, {"gqa-4", 4, 64, 64, 3000}, {"gqa-2", 4, 8, 8, 500},
		{"gta-2", 8, 64, 32, 3000}, {"mla", 4, 24, 32, 500}}
)
