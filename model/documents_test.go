package model_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"headroom/internal/graph"
)

// TestDocuments: in a row of several documents every kind, with a window too, gives the logits of each document in a
// row of its own, and the gradients of the row are those of its documents. Positions go on in the row, where those of
// a document alone begin at 0: rotations read their differences only.
func TestDocuments(t *testing.T) {
	const T = 14
	starts := []int32{0, 0, 0, 0, 0, 5, 5, 5, 5, 5, 5, 5, 12, 12}
	for _, name := range everyKind() {
		for _, window := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s/W%d", name, window), func(t *testing.T) {
				a := config(t, name)
				a.Window = window
				m := newTiny(t, a, 5)
				s := m.store(t)
				r := rand.New(rand.NewPCG(8, 9))
				tokens, targets := make([]int32, T), make([]int32, T)
				for i := range tokens {
					tokens[i], targets[i] = r.Int32N(vocab), r.Int32N(vocab)
				}
				p, err := graph.Compile(s, 1, T, func(b *graph.Builder) []*graph.Node {
					b.Documents = true
					return []*graph.Node{m.Logits(b, b.Tokens("tokens"))}
				})
				must(t, err)
				defer p.Close()
				must(t, p.SetTokens("tokens", tokens))
				must(t, p.SetTokens(graph.Documents, starts))
				must(t, p.RunAll())
				logits, err := p.Output(0, nil)
				must(t, err)
				tr, err := graph.NewTrainer(s, 1, T, 1, func(b *graph.Builder) *graph.Node {
					b.Documents = true
					return m.Loss(b, b.Tokens("tokens"), b.Tokens("targets"), 0)
				})
				must(t, err)
				defer tr.Close()
				must(t, tr.Gradients([]graph.Batch{{"tokens": tokens, "targets": targets, graph.Documents: starts}}))
				got, want := map[string][]float32{}, map[string][]float64{}
				for name := range m.weights {
					got[name], err = s.Grad(name)
					must(t, err)
				}
				for from := 0; from < T; {
					to := from
					for to < T && starts[to] == starts[from] {
						to++
					}
					part := float64(to-from) / T
					alone := m.scorer(t, s, to-from)(tokens[from:to])
					nearest(t, "logits", logits[from*vocab:to*vocab], alone)
					for name, g := range m.gradients(t, s, tokens[from:to], targets[from:to]) {
						if want[name] == nil {
							want[name] = make([]float64, len(g))
						}
						for i, v := range g {
							want[name][i] += part * float64(v)
						}
					}
					from = to
				}
				for name, g := range got {
					nearest(t, name, g, want[name])
				}
			})
		}
	}
}

// nearest fails where two vectors differ by more than 2e-5 of their norm.
func nearest[F float32 | float64](t *testing.T, name string, got []float32, want []F) {
	t.Helper()
	var d, n float64
	for i, w := range want {
		d += math.Pow(float64(got[i])-float64(w), 2)
		n += float64(w) * float64(w)
	}
	if !(d <= 4e-10*n) {
		t.Errorf("%s differ from those of the documents alone by %.2g of their norm", name, math.Sqrt(d/n))
	}
}
