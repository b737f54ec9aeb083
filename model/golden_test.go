package model

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/internal/graph"
	"headroom/internal/safetensors"
)

const goldens = "../attention/testdata"

// A golden is a tiny model whose logits, loss and gradients another program has computed: gen.py or theta.py beside the
// files.
type golden struct {
	*safetensors.File
	model           *Transformer
	tokens, targets []int32
	B, T            int
}

func readGolden(t *testing.T, path string) golden {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m, err := decodeMetadata(f.Metadata["headroom"])
	if err != nil {
		t.Fatal(err)
	}
	tr, err := New(m.Model, m.Attention)
	if err != nil {
		t.Fatal(err)
	}
	g := golden{File: f, model: tr}
	g.tokens, g.B, g.T = g.ints(t, "tokens")
	g.targets, _, _ = g.ints(t, "targets")
	return g
}

func (g golden) ints(t *testing.T, name string) (x []int32, B, T int) {
	t.Helper()
	raw, info, err := g.Bytes(name)
	if err != nil || info.DType != safetensors.I32 {
		t.Fatal(name, info, err)
	}
	for i := 0; i < len(raw); i += 4 {
		x = append(x, int32(raw[i])|int32(raw[i+1])<<8|int32(raw[i+2])<<16|int32(raw[i+3])<<24)
	}
	return x, info.Shape[0], info.Shape[1]
}

func (g golden) floats(t *testing.T, name string) []float32 {
	t.Helper()
	x, _, err := g.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// store holds the golden's weights on a backend.
func (g golden) store(t *testing.T, backend graph.Backend) *graph.Store {
	t.Helper()
	s, err := graph.NewStore(backend, g.model.Params())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range g.model.Params() {
		if err := s.Set(p.Name, g.floats(t, "weight."+p.Name)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// compare fails when got differs from the golden's tensor by more than tolerance of its norm, and names the element
// that is worst.
func (g golden) compare(t *testing.T, name string, got []float32, tolerance float64) {
	t.Helper()
	want := g.floats(t, name)
	if len(got) != len(want) {
		t.Fatalf("%s has %d elements, not %d", name, len(got), len(want))
	}
	var diff, norm float64
	worst := 0
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		if !(math.Abs(d) <= math.Abs(float64(got[worst])-float64(want[worst]))) {
			worst = i
		}
		diff += d * d
		norm += float64(want[i]) * float64(want[i])
	}
	if e := math.Sqrt(diff / norm); !(e <= tolerance) {
		t.Errorf("%s is off by %.3g, more than %.3g; worst at %d: %v instead of %v", name, e, tolerance, worst,
			got[worst], want[worst])
	}
}

// kindOf is the kind of a golden file by its name: gta-2, theta-gta-2, mla-nobias.
func kindOf(path string) attention.Kind {
	name := strings.TrimPrefix(strings.TrimSuffix(filepath.Base(path), ".safetensors"), "theta-")
	kind, _, _ := strings.Cut(name, "-")
	return attention.Kind(kind)
}

func eachGolden(t *testing.T, f func(t *testing.T, g golden)) {
	paths, err := filepath.Glob(filepath.Join(goldens, "*.safetensors"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files in %s (%v)", goldens, err)
	}
	for _, d := range attention.Descriptions {
		if !slices.ContainsFunc(paths, func(path string) bool { return d.Kind == kindOf(path) }) {
			t.Errorf("there is no golden file of %s in %s", d.Kind, goldens)
		}
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".safetensors"), func(t *testing.T) {
			if st, err := os.Stat(path); err != nil || st.Size() > 100<<10 {
				t.Fatalf("%s is too large (%v)", path, err)
			}
			f(t, readGolden(t, path))
		})
	}
}

// checkGolden runs a golden's model on a backend: logits, loss and every gradient.
func checkGolden(t *testing.T, g golden, backend graph.Backend, tolerance float64) {
	t.Helper()
	store := g.store(t, backend)
	defer store.Close()
	prog, err := graph.Compile(store, g.B, g.T, func(b *graph.Builder) []*graph.Node {
		return []*graph.Node{g.model.Logits(b, b.Tokens("tokens"))}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	if err := prog.SetTokens("tokens", g.tokens); err != nil {
		t.Fatal(err)
	}
	if err := prog.RunAll(); err != nil {
		t.Fatal(err)
	}
	logits, err := prog.Output(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.compare(t, "logits", logits, tolerance)

	tr, err := graph.NewTrainer(store, g.B, g.T, 1, func(b *graph.Builder) *graph.Node {
		return g.model.Loss(b, b.Tokens("tokens"), b.Tokens("targets"), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Gradients([]graph.Batch{{"tokens": g.tokens, "targets": g.targets}}); err != nil {
		t.Fatal(err)
	}
	loss, err := tr.Loss()
	if err != nil {
		t.Fatal(err)
	}
	g.compare(t, "loss", []float32{float32(loss)}, tolerance)
	for _, p := range g.model.Params() {
		got, err := store.Grad(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		g.compare(t, "grad."+p.Name, got, tolerance)
	}
}

// TestGolden holds every kind against PyTorch and, where it has the kind, Hugging Face's own layers.
func TestGolden(t *testing.T) {
	eachGolden(t, func(t *testing.T, g golden) { checkGolden(t, g, graph.NewCPU(), 2e-5) })
}
