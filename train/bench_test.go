package train

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/internal/graph"
	"headroom/model"
)

// BenchmarkStep is `headroom bench train --device cpu` under go test.
func BenchmarkStep(b *testing.B) {
	for _, c := range benchCases(b) {
		b.Run(fmt.Sprintf("%s/C=%d", c.Attention.Name(), c.Model.Width), func(b *testing.B) {
			r, err := Bench(b.Context(), graph.NewCPU(), c, b.N)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(r.TokensPerSecond, "tokens/s")
			b.ReportMetric(float64(r.ArenaBytes)/(1<<20), "arena-MiB")
		})
	}
}

func benchCases(tb testing.TB) []BenchCase {
	tb.Helper()
	cases, err := BenchCases("cpu", BenchOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return cases
}

func TestBench(t *testing.T) {
	m, a := tinyConfigs()
	r, err := Bench(t.Context(), graph.NewCPU(), BenchCase{Model: m, Attention: a, Batch: 2, Context: 16}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if r.Attention != "gla-2" || r.Layers != 2 || r.Width != 16 || r.Heads != 4 || r.Batch != 2 || r.Context != 16 ||
		r.Parameters == 0 ||
		r.TokensPerSecond <= 0 || r.TFLOPs <= 0 || r.CeilingTFLOPs <= r.TFLOPs || r.MemoryBytes < r.ArenaBytes ||
		r.KernelMillis["attend"] <= 0 || r.ArenaBytes <= 0 || r.UnplannedBytes <= r.ArenaBytes {
		t.Errorf("got %+v", r)
	}
	text, err := json.Marshal(r)
	if err != nil || !strings.HasPrefix(string(text), `{"attention":"gla-2","layers":2,"width":16,`) {
		t.Errorf("as JSON %s, %v", text, err)
	}
}

func TestBenchCases(t *testing.T) {
	var got []string
	for _, c := range benchCases(t) {
		if c.Model.Vocab != 256 || c.Attention.HeadDim*c.Attention.Heads != c.Model.Width {
			t.Errorf("%+v", c)
		}
		got = append(got, c.Attention.Name())
	}
	if names := strings.Join(got, " "); names != "gqa-4 gla-2 gqa-4 gla-2" {
		t.Errorf("the cases are %s", names)
	}
	for _, d := range attention.Descriptions { // each kind in the smaller size of each device
		for _, device := range []string{"cpu", "cuda"} {
			cases, err := BenchCases(device, BenchOptions{Kinds: []string{d.Name(4)}})
			if err == nil && len(cases) == 1 {
				_, err = model.New(cases[0].Model, cases[0].Attention)
			}
			if err != nil || len(cases) != 1 {
				t.Errorf("%s on %s: %d cases, %v", d.Name(4), device, len(cases), err)
			}
		}
	}
}

// TestBenchMasked has every case again in a window and within documents, and runs one of them.
func TestBenchMasked(t *testing.T) {
	cases, err := BenchCases("cpu", BenchOptions{Kinds: []string{"gta-4", "mla"}, Batch: 1, Context: 96, Window: 20,
		Documents: 30})
	if err != nil || len(cases) != 6 {
		t.Fatal(cases, err)
	}
	for i, c := range cases {
		if want := []string{"gta-4", "mla"}[i/3]; c.Attention.Name() != want || c.Batch != 1 || c.Context != 96 ||
			c.Attention.Window != []int{0, 20, 0}[i%3] || c.Documents != []int{0, 0, 30}[i%3] {
			t.Errorf("case %d is %+v", i, c)
		}
	}
	starts, longest := cases[2].random()[0][graph.Documents], 0
	for i, start := range starts {
		if int(start) > i || i > 0 && start != starts[i-1] && int(start) != i {
			t.Fatalf("documents start at %v", starts)
		}
		longest = max(longest, i-int(start)+1)
	}
	if longest < 2 || longest > 59 {
		t.Errorf("the longest document has %d tokens", longest)
	}
	for _, c := range cases[1:3] {
		r, err := Bench(t.Context(), graph.NewCPU(), c, 1)
		if err != nil || r.Window != c.Attention.Window || r.Documents != c.Documents || r.KernelMillis["attend"] <= 0 {
			t.Errorf("got %+v, %v", r, err)
		}
	}
	if _, err := BenchCases("cpu", BenchOptions{Window: -1}); err == nil {
		t.Error("a window of -1 passes")
	}
}

func TestBenchRefuses(t *testing.T) {
	m, a := tinyConfigs()
	if _, err := Bench(t.Context(), graph.NewCPU(), BenchCase{Model: m, Attention: a, Batch: 2, Context: 16},
		0); err == nil ||
		err.Error() != "train: bench gla-2: steps must be at least 1, not 0" {
		t.Errorf("no steps: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Bench(ctx, graph.NewCPU(), benchCases(t)[0], 5); err == nil ||
		!strings.HasSuffix(err.Error(), "context canceled") {
		t.Errorf("after the end: %v", err)
	}
	a.Groups = 3
	if _, err := Bench(t.Context(), graph.NewCPU(), BenchCase{Model: m, Attention: a, Batch: 2, Context: 16},
		1); err == nil {
		t.Error("3 latent heads for 4 heads pass")
	}
}
