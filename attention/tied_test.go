package attention_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/internal/graph"
)

// A bare layer reads one-hot vectors of width C, so that row t of a projection is row token t of its weight.
const C = 32

// attend runs a layer with the given weights over the one-hot vectors of tokens. Wo is the identity.
func attend(t *testing.T, a attention.Config, weights map[string][]float32, tokens []int32) []float32 {
	t.Helper()
	layer, err := attention.New(a, attention.Place{Name: "a", Width: C, NormEps: 1e-5, Std: 1, OutStd: 1})
	must(t, err)
	table := graph.Param{Name: "embed", Shape: []int{C, C}}
	s, err := graph.NewStore(graph.NewCPU(), append(layer.Params(), table))
	must(t, err)
	defer s.Close()
	must(t, s.Set("embed", identity()))
	for name, w := range weights {
		must(t, s.Set("a."+name, w))
	}
	must(t, s.Set("a.Wo", identity()))
	p, err := graph.Compile(s, 1, len(tokens), func(b *graph.Builder) []*graph.Node {
		return []*graph.Node{layer.Forward(b, b.Embed(b.Param(table), b.Tokens("tokens")))}
	})
	must(t, err)
	defer p.Close()
	must(t, p.SetTokens("tokens", tokens))
	must(t, p.RunAll())
	out, err := p.Output(0, nil)
	must(t, err)
	return slices.Clone(out)
}

func identity() []float32 {
	x := make([]float32, C*C)
	for i := range C {
		x[i*C+i] = 1
	}
	return x
}

// random draws a layer's weights, biases too; Wo is left to attend.
func random(t *testing.T, a attention.Config, seed uint64) map[string][]float32 {
	t.Helper()
	layer, err := attention.New(a, attention.Place{Name: "a", Width: C, NormEps: 1e-5, Std: 1, OutStd: 1})
	must(t, err)
	r := rand.New(rand.NewPCG(seed, 0))
	w := map[string][]float32{}
	for _, p := range layer.Params() {
		x := make([]float32, p.Size())
		for i := range x {
			x[i] = float32(p.Init.Mean + 0.5*r.NormFloat64())
		}
		w[p.Name[len("a."):]] = x
	}
	delete(w, "Wo")
	return w
}

// TestValueIsTheProjection makes each token see itself alone: without a rope key the scores are those of the unrotated
// halves, and these differ enough that softmax underflows for all others. Then the output is x·Wkv at every position,
// but for the last bit, which the softmax's own weight of one over one may cost; a value that was rotated would not
// pass.
func TestValueIsTheProjection(t *testing.T) {
	const H, D, P = 4, 8, 4
	a, _ := paper(t, "gta-4", 4, 8)
	w := random(t, a, 1)
	clear(w["Wkr"])
	clear(w["bkr"])
	for token := range C {
		for h := range H {
			q, kv := w["Wq"][(token*H+h)*D:][:D], w["Wkv"][(token*H+h)*D:][:D]
			norm := 0.0
			for _, x := range kv[:P] {
				norm = math.Hypot(norm, float64(x))
			}
			for i := range P { // keys of length 1, and queries along them so long that the second best key has no weight
				kv[i] /= float32(norm)
				q[i] = 1e6 * kv[i]
			}
		}
	}
	tokens := []int32{5, 17, 2, 30, 9, 11, 23, 1, 8, 26}
	out := attend(t, a, w, tokens)
	for i, token := range tokens {
		for j, want := range w["Wkv"][int(token)*H*D:][:H*D] {
			if got := out[i*H*D+j]; !(math.Abs(float64(got-want)) <= 0x1p-22*math.Abs(float64(want))) {
				t.Errorf("position %d, column %d: value %v, the projection is %v", i, j, got, want)
			}
		}
	}
}

// TestPositionIsInTheRopeKey: where the rope key is zero, a token's output depends on the tokens before it and not on
// their order, nor on where the sequence starts. With a rope key it does.
func TestPositionIsInTheRopeKey(t *testing.T) {
	for _, name := range []string{"gta-2", "mla", "gla-2", "gla_q-2"} {
		a, _ := paper(t, name, 4, 8)
		w := random(t, a, 2)
		last := func(tokens ...int32) []float32 {
			out := attend(t, a, w, tokens)
			return out[len(out)-C:]
		}
		arrangements := map[string]func() []float32{
			"in another order": func() []float32 { return last(9, 7, 5, 3, 1, 9) },
			// the same mean, six places on
			"twice as late": func() []float32 { return last(9, 1, 3, 5, 7, 9, 9, 1, 3, 5, 7, 9) },
		}
		for how, late := range arrangements {
			if d := apart(last(9, 1, 3, 5, 7, 9), late()); d < 1e-3 {
				t.Errorf("%s: positions do not count %s: %v", name, how, d)
			}
		}
		clear(w["Wkr"])
		clear(w["bkr"])
		for how, late := range arrangements {
			if d := apart(last(9, 1, 3, 5, 7, 9), late()); !(d < 1e-5) {
				t.Errorf("%s: without a rope key the output %s is %v off", name, how, d)
			}
		}
	}
}

// TestPositionsAreRelative: scores depend on distances. Tokens that no query weighs, put before the sequence, move it
// and leave its outputs as they are.
func TestPositionsAreRelative(t *testing.T) {
	const H, D = 4, 8
	a, _ := paper(t, "gqa-4", 4, 8)
	a.RopeDim = 6 // the first two columns are not rotated: they tell padding from text
	w := random(t, a, 3)
	for token := range C {
		for h := range H {
			w["Wq"][(token*H+h)*D] = 1
			w["Wk"][(token*H+h)*D] = 0
			if token == 0 {
				w["Wk"][h*D] = -1e4
			}
		}
	}
	text := []int32{9, 1, 3, 5, 7}
	want := attend(t, a, w, text)
	got := attend(t, a, w, append([]int32{0, 0, 0}, text...))[3*C:]
	if d := apart(got, want); !(d < 2e-6) {
		t.Errorf("outputs are %v off after a shift by three", d)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// apart is the largest difference.
func apart(x, y []float32) (d float64) {
	for i := range x {
		d = max(d, math.Abs(float64(x[i])-float64(y[i])))
	}
	return d
}
