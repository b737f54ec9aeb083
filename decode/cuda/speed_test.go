//go:build gpu

package cuda

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/graph"
	"headroom/model"
)

// BenchmarkCUDA times the steps that the project holds itself to, in bf16.
func BenchmarkCUDA(b *testing.B) {
	on, err := gpus[graph.BF16]()
	if err != nil {
		b.Skip(err)
	}
	ceiling, err := on.Bandwidth()
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []struct {
		name                      string
		layers, width, heads, mlp int
		cases                     [][2]int
	}{
		{"183M", 12, 768, 12, 2048, [][2]int{{1, 1024}, {8, 1024}, {64, 1024}, {64, 8192}}},
		{"876M", 24, 1536, 24, 4096, [][2]int{{1, 1024}, {8, 1024}, {64, 1024}, {64, 8192}}},
	} {
		for _, kind := range []string{"gqa-4", "gta-4", "gla-2"} {
			var m *decode.Model // drawn when it is first wanted
			for _, x := range size.cases {
				b.Run(fmt.Sprintf("%s/%s/B%d/S%d", size.name, kind, x[0], x[1]), func(b *testing.B) {
					if m == nil {
						m = random(b, kind, size.layers, size.width, size.heads, size.mlp)
					}
					for b.Loop() {
						r, err := decode.Bench(context.Background(), m, on, x[0], x[1], 50, ceiling)
						if err != nil {
							b.Fatal(err)
						}
						b.ReportMetric(r.TokenMillis, "ms/step")
						b.ReportMetric(r.FirstMillis, "ms/first")
						b.ReportMetric(100*r.CeilingShare, "%copy")
					}
				})
			}
			m = nil
			runtime.GC()
		}
	}
}

func random(b *testing.B, kind string, layers, width, heads, mlp int) *decode.Model {
	a := attention.Default()
	a.Heads, a.HeadDim = heads, 64
	var err error
	if a.Kind, a.Groups, err = attention.Parse(kind); err != nil {
		b.Fatal(err)
	}
	c := model.Default()
	c.Layers, c.Width, c.MLP, c.Vocab, c.Context = layers, width, mlp, 128256, 2048
	t, err := model.New(c, a)
	if err != nil {
		b.Fatal(err)
	}
	return decode.Random(t, 1)
}
