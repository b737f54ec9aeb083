package model_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/internal/graph"
	"headroom/model"
)

const vocab = 11

// everyKind names the kinds, with two groups.
func everyKind() (names []string) {
	for _, d := range attention.Descriptions {
		names = append(names, d.Name(2))
	}
	return names
}

// config is a tiny layer: four heads of eight dims, four of them rotary in latent kinds.
func config(t *testing.T, name string) attention.Config {
	t.Helper()
	kind, groups, err := attention.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	c := attention.Default()
	c.Kind, c.Groups, c.Heads, c.HeadDim = kind, groups, 4, 8
	if d, err := kind.Describe(); err == nil && d.Cache == attention.Latent {
		c.RopeDim = 4
	}
	return c
}

// A tiny is a model of two layers with weights of its own, by name.
type tiny struct {
	*model.Transformer
	weights map[string][]float32
}

// newTiny draws every weight from a seed, biases and norms too, so that none hides behind zeros and ones.
func newTiny(t *testing.T, a attention.Config, seed uint64) tiny {
	t.Helper()
	c := model.Default()
	c.Layers, c.Width, c.MLP, c.Vocab, c.Context, c.Tie = 2, 16, 24, vocab, 16, false
	m, err := model.New(c, a)
	if err != nil {
		t.Fatal(err)
	}
	w := map[string][]float32{}
	r := rand.New(rand.NewPCG(seed, 0))
	for _, p := range m.Params() {
		x := make([]float32, p.Size())
		for i := range x {
			x[i] = float32(p.Init.Mean + 0.3*r.NormFloat64())
		}
		w[p.Name] = x
	}
	return tiny{m, w}
}

// as gives the weights to a model whose attention is another: equal names must be equal sizes.
func (m tiny) as(t *testing.T, a attention.Config) tiny {
	t.Helper()
	other := newTiny(t, a, 99)
	if len(other.weights) != len(m.weights) {
		t.Fatalf("%d parameters and %d", len(m.weights), len(other.weights))
	}
	for name, x := range other.weights {
		if len(m.weights[name]) != len(x) {
			t.Fatalf("%s has %d elements and %d", name, len(m.weights[name]), len(x))
		}
	}
	other.weights = m.weights
	return other
}

func (m tiny) store(t *testing.T) *graph.Store {
	t.Helper()
	s, err := graph.NewStore(graph.NewCPU(), m.Params())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for name, x := range m.weights {
		must(t, s.Set(name, x))
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scorer compiles the logits of one row of T tokens.
func (m tiny) scorer(t *testing.T, s *graph.Store, T int) func(tokens []int32) []float32 {
	t.Helper()
	p, err := graph.Compile(s, 1, T, func(b *graph.Builder) []*graph.Node {
		return []*graph.Node{m.Logits(b, b.Tokens("tokens"))}
	})
	must(t, err)
	t.Cleanup(func() { p.Close() })
	return func(tokens []int32) []float32 {
		t.Helper()
		must(t, p.SetTokens("tokens", tokens))
		must(t, p.RunAll())
		x, err := p.Output(0, nil)
		must(t, err)
		return slices.Clone(x)
	}
}

// gradients of the mean loss, by name.
func (m tiny) gradients(t *testing.T, s *graph.Store, tokens, targets []int32) map[string][]float32 {
	t.Helper()
	tr, err := graph.NewTrainer(s, 1, len(tokens), 1, func(b *graph.Builder) *graph.Node {
		return m.Loss(b, b.Tokens("tokens"), b.Tokens("targets"), 0)
	})
	must(t, err)
	defer tr.Close()
	must(t, tr.Gradients([]graph.Batch{{"tokens": tokens, "targets": targets}}))
	grads := map[string][]float32{}
	for name := range m.weights {
		grads[name], err = s.Grad(name)
		must(t, err)
	}
	return grads
}

var (
	sentence = []int32{3, 1, 4, 1, 5, 9, 2, 6, 10}
	next     = []int32{1, 4, 1, 5, 9, 2, 6, 10, 3}
)

// TestEqualKinds gives two kinds that are one the same weights: logits and gradients are equal bit for bit.
func TestEqualKinds(t *testing.T) {
	latent := func(kind attention.Kind, L int) attention.Config {
		c := config(t, "gla-1")
		c.Kind, c.LatentDim = kind, L
		return c
	}
	for _, pair := range [][2]attention.Config{
		{config(t, "mha"), config(t, "gqa-4")},
		{config(t, "mqa"), config(t, "gqa-1")},
		{config(t, "mla"), latent(attention.GLA, 32)},
		{config(t, "mla"), latent(attention.GLAQ, 32)},
	} {
		m := newTiny(t, pair[0], 2)
		n := m.as(t, pair[1])
		ms, ns := m.store(t), n.store(t)
		if x, y := m.scorer(t, ms, len(sentence))(sentence), n.scorer(t, ns, len(sentence))(sentence); !slices.Equal(x, y) {
			t.Errorf("%s and %s: logits\n%v\n%v", pair[0].Name(), pair[1].Name(), x, y)
		}
		want, got := m.gradients(t, ms, sentence, next), n.gradients(t, ns, sentence, next)
		for name := range want {
			if !slices.Equal(want[name], got[name]) {
				t.Errorf("%s and %s: gradients of %s differ", pair[0].Name(), pair[1].Name(), name)
			}
		}
	}
}

// TestGroupsAreConsecutive: GQA-2 is MHA whose heads 0 and 1 have the key and value of group 0, and 2 and 3 those of 1.
func TestGroupsAreConsecutive(t *testing.T) {
	const H, G, D, C = 4, 2, 8, 16
	m := newTiny(t, config(t, "gqa-2"), 3)
	full := newTiny(t, config(t, "mha"), 4)
	for name, to := range full.weights {
		from := m.weights[name]
		if len(from) == len(to) {
			copy(to, from)
			continue
		}
		for i := range C {
			for h := range H {
				copy(to[(i*H+h)*D:][:D], from[(i*G+h/(H/G))*D:][:D])
			}
		}
	}
	x, y := m.scorer(t, m.store(t), len(sentence))(sentence), full.scorer(t, full.store(t), len(sentence))(sentence)
	if d := apart(x, y); !(d < 1e-5) {
		t.Errorf("logits are %v apart", d)
	}
}

// TestLatentsAreApart: GLA-2 is MLA with a latent of both, whose heads have zeros for the other latent, but for the
// norm; so the norm of one latent must not see the other.
func TestLatentsAreApart(t *testing.T) {
	a := config(t, "gla-2")
	m := newTiny(t, a, 5)
	logits := m.scorer(t, m.store(t), len(sentence))
	was := logits(sentence)
	const n, L, C, half = 2, 16, 16, 4 / 2 * 2 * 8 // columns of Wukv of one latent
	for layer := range 2 {
		name := fmt.Sprintf("blocks.%d.attn.", layer)
		clear(m.weights[name+"Wukv"][L*half:])
		clear(m.weights[name+"bukv"][half:])
	}
	alone := m.scorer(t, m.store(t), len(sentence))(sentence)
	if apart(alone, was) < 1e-3 {
		t.Error("the second latent is read by nobody")
	}
	for layer := range 2 {
		w := m.weights[fmt.Sprintf("blocks.%d.attn.Wdkv", layer)]
		for i := range C {
			for j := range L {
				w[i*n*L+L+j] *= 100
			}
		}
	}
	if d := apart(m.scorer(t, m.store(t), len(sentence))(sentence), alone); d != 0 {
		t.Errorf("the second latent reaches the first's heads: logits are %v apart", d)
	}
}

// apart is the largest difference.
func apart(x, y []float32) (d float64) {
	for i := range x {
		d = max(d, math.Abs(float64(x[i])-float64(y[i])))
	}
	return d
}
