//go:build gpu

package cuda

import (
	"headroom/attention"
	"headroom/internal/graph"
	"headroom/model"
)

// groups records a model's pass without a device. It finds which weights are multiplied with one and the same value,
// since they can then lie side by side and be one product, and how each layer reads its cache.
type groups struct {
	values    int
	reads     []read
	rotations map[tableKey]bool // rotations
	norms     map[string]int    // how many parts of a value a norm's one weight [C] is for, where they are several
	at        map[int]int       // value -> place in all
	all       [][]weight        // of products that may become one
}

// A read is how a layer reads its cache.
type read struct {
	layer int
	attention.CacheRead
	latent *attention.LatentRead // where queries are absorbed
}

// heads is the largest number of query heads that attend.
func (g *groups) heads() (most int) {
	for _, r := range g.reads {
		most = max(most, r.H)
	}
	return most
}

var _ model.Step = (*groups)(nil)

// A weight is a matrix with its bias, which may be nil.
type weight struct {
	w    graph.Param
	bias *graph.Param
}

// A product names a weight and the bias that is added to it, or none: one weight may be used with several.
type product struct{ w, bias string }

func (w weight) product() product {
	p := product{w: w.w.Name}
	if w.bias != nil {
		p.bias = w.bias.Name
	}
	return p
}

func groupsOf(m *model.Transformer) *groups {
	g := &groups{at: map[int]int{}, rotations: map[tableKey]bool{}, norms: map[string]int{}}
	m.Decode(g)
	return g
}

// fresh makes a value of so many columns that differs from all others by its number, Off.
func (g *groups) fresh(width int) graph.Buf {
	g.values++
	return graph.Buf{Off: g.values, Len: width}
}

// Linear puts a product into the group of its value. A weight in parts has a group of its own.
func (g *groups) Linear(x graph.Buf, w graph.Param, bias *graph.Param) graph.Buf {
	at, ok := g.at[x.Off]
	if len(w.Shape) == 3 || !ok {
		at = len(g.all)
		g.all = append(g.all, nil)
	}
	if len(w.Shape) == 2 {
		g.at[x.Off] = at
	}
	g.all[at] = append(g.all[at], weight{w, bias})
	in, out := w.Shape[len(w.Shape)-2], w.Shape[len(w.Shape)-1]
	return g.fresh(x.Len / in * out)
}

// Columns is the same value: a weight for its first columns goes into its group, with zeros for the others.
func (g *groups) Columns(x graph.Buf, n int) graph.Buf {
	if _, ok := g.at[x.Off]; !ok {
		panic("decode: the first product of a value must be of all its columns")
	}
	return graph.Buf{Off: x.Off, Len: n}
}

func (g *groups) RMSNorm(x graph.Buf, w graph.Param, _ float64) graph.Buf {
	if parts := x.Len / w.Size(); parts > 1 {
		g.norms[w.Name] = max(parts, g.norms[w.Name])
	}
	return g.fresh(x.Len)
}

func (g *groups) Rope(x graph.Buf, _, r int, rotary graph.Rotary) graph.Buf {
	g.rotations[tableKey{r, rotary}] = true
	return x
}

func (g *groups) Attend(layer int, _ graph.Buf, a attention.CacheRead) graph.Buf {
	g.reads = append(g.reads, read{layer, a, nil})
	return g.fresh(a.H * a.Dv)
}

func (g *groups) AttendLatent(layer int, _ graph.Buf, a attention.LatentRead) graph.Buf {
	g.reads = append(g.reads, read{layer, a.Absorbed(), &a})
	return g.fresh(a.H * a.D)
}

func (g *groups) Embed(table graph.Param) graph.Buf { return g.fresh(table.Shape[1]) }
func (g *groups) Expand(_, _ graph.Buf, heads, dim int, _ float64) graph.Buf {
	return g.fresh(heads * dim)
}

func (g *groups) AddScaled(x, _ graph.Buf, _ graph.Param) graph.Buf { return g.fresh(x.Len) }
func (g *groups) SwiGLU(gate, _ graph.Buf) graph.Buf                { return g.fresh(gate.Len) }
func (g *groups) Select(x graph.Buf) graph.Buf                      { return g.fresh(x.Len) }
func (g *groups) Logits(_ graph.Buf, w graph.Param) graph.Buf       { return g.fresh(w.Shape[0]) }
func (g *groups) Append(int, int, graph.Buf)                        {}
func (g *groups) Release()                                          {}
func (g *groups) Gate(o, _ graph.Buf) graph.Buf                     { return g.fresh(o.Len) }

// Add makes another value of x: what is multiplied with it from here on is not multiplied with what it was.
func (g *groups) Add(x, _ graph.Buf) { delete(g.at, x.Off) }

// GeGLU makes a new value.
func (g *groups) GeGLU(gate, _ graph.Buf) graph.Buf { return g.fresh(gate.Len) }

// Scale changes the value that Embed gave before anything is multiplied with it.
func (g *groups) Scale(graph.Buf, float64) {}
