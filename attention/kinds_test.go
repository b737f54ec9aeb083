package attention

import (
	"os"
	"strings"
	"testing"

	"headroom/internal/graph"
	"headroom/kernels"
)

// TestDescriptions: every kind has a layer of its own description, whose cache holds what the description says.
func TestDescriptions(t *testing.T) {
	for _, d := range Descriptions {
		c := Default()
		c.Kind, c.Heads, c.HeadDim = d.Kind, 8, 16
		if d.Usual > 0 {
			c.Groups = 2
		}
		l, err := New(c, Place{Name: "attn", Width: 64, NormEps: 1e-5, Std: 0.02, OutStd: 0.02})
		if err != nil {
			t.Errorf("%s: %v", d.Kind, err)
			continue
		}
		s := c.Shape()
		elements := 0
		for _, slot := range l.CacheLayout() {
			elements += slot.Heads * slot.Dim
		}
		want := c.CachedHeads() * 2 * s.Dv
		switch d.Cache {
		case KeyValue:
		case Factored:
			want = 2 * c.Resolve().KVRank * (c.Heads + s.Dv)
		default:
			want = c.CachedHeads()*s.Dv + s.R
		}
		if elements != want || s.P+s.R < 1 {
			t.Errorf("%s: %d cached elements a token, by its description %d", d.Kind, elements, want)
		}
		if kind, groups, err := Parse(c.Name()); kind != d.Kind || err != nil || d.Usual > 0 && groups != 2 {
			t.Errorf("%s is read as %s of %d: %v", c.Name(), kind, groups, err)
		}
	}
}

// A recorder is a Step that computes nothing and remembers how the cache is written and read. A value is its width.
type recorder struct {
	wrote map[int]int // columns, by slot
	reads []CacheRead
}

func (r *recorder) Linear(x graph.Buf, w graph.Param, _ *graph.Param) graph.Buf {
	in, out := w.Shape[len(w.Shape)-2], w.Shape[len(w.Shape)-1]
	return graph.Buf{Len: x.Len / in * out}
}

func (r *recorder) Expand(_, _ graph.Buf, heads, dim int, _ float64) graph.Buf {
	return graph.Buf{Len: heads * dim}
}

func (r *recorder) AddScaled(x, _ graph.Buf, _ graph.Param) graph.Buf { return x }

func (r *recorder) RMSNorm(x graph.Buf, _ graph.Param, _ float64) graph.Buf { return x }
func (r *recorder) Rope(x graph.Buf, _, _ int, _ graph.Rotary) graph.Buf    { return x }
func (r *recorder) Columns(_ graph.Buf, n int) graph.Buf                    { return graph.Buf{Len: n} }
func (r *recorder) Gate(o, _ graph.Buf) graph.Buf                           { return o }
func (r *recorder) Append(_, slot int, x graph.Buf)                         { r.wrote[slot] = x.Len }
func (r *recorder) AttendLatent(_ int, _ graph.Buf, a LatentRead) graph.Buf {
	return r.read(a.Absorbed(), a.H*a.D)
}
func (r *recorder) Attend(_ int, _ graph.Buf, a CacheRead) graph.Buf { return r.read(a, a.H*a.Dv) }

func (r *recorder) read(a CacheRead, width int) graph.Buf {
	r.reads = append(r.reads, a)
	return graph.Buf{Len: width}
}

// TestDecodeIsAsDescribed: what a layer writes into the cache is its layout, and how it reads it is what the
// description says. There are kernels for each kind at the head dims that they were made for: 128, and 64 but for MLRA,
// whose latents have as many columns.
func TestDecodeIsAsDescribed(t *testing.T) {
	for _, d := range Descriptions {
		for _, D := range []int{64, 128} {
			decodesAsDescribed(t, d, D)
		}
	}
}

func decodesAsDescribed(t *testing.T, d Description, D int) {
	c := Default()
	c.Kind, c.Groups, c.Heads, c.HeadDim = d.Kind, max(d.Usual, 1), 8, D
	l, err := New(c, Place{Name: "attn", Width: 64, NormEps: 1e-5, Std: 0.02, OutStd: 0.02})
	if err != nil {
		t.Errorf("%s: %v", d.Kind, err)
		return
	}
	r := &recorder{wrote: map[int]int{}}
	if out := l.Decode(r, 0, graph.Buf{Len: 64}); out.Len != 64 || len(r.reads) != 1 {
		t.Errorf("%s: decoding gives %d columns and reads the cache %d times", d.Kind, out.Len, len(r.reads))
		return
	}
	for i, slot := range l.CacheLayout() {
		if r.wrote[i] != slot.Heads*slot.Dim {
			t.Errorf("%s: a token leaves %d columns as %s, its layout has %d", d.Kind, r.wrote[i], slot.Name,
				slot.Heads*slot.Dim)
		}
	}
	a, s := r.reads[0], c.Shape()
	if a.Form() != d.Cache || a.P != s.P || a.R != s.R || a.Dv != s.Dv || a.H != c.Reads() {
		t.Errorf("%s reads %+v, its description says %s and %+v", d.Kind, a, d.Cache, s)
	}
	shape := kernels.DecodeShape{Cache: string(d.Cache), B: 1, T: 1, H: a.H, G: l.CacheLayout()[a.K].Heads, P: a.P,
		R: a.R, Dv: a.Dv, Page: 64, MaxPages: 4}
	// the plain kernel alone reads keys that are not rotated yet, factors, and latents of 64 columns
	if err := shape.Check(); (err == nil) != (d.Cache != Unrotated && d.Cache != Factored && !(d.Apart && D == 64)) {
		t.Errorf("%s: %v", d.Kind, err)
	}
}

// TestUnknownKind: a kind without a description is an error that names it, nowhere another kind.
func TestUnknownKind(t *testing.T) {
	c := Default()
	c.Kind = "nsa"
	_, made := New(c, Place{Name: "attn", Width: 64})
	_, _, parsed := Parse("nsa-2")
	_, described := c.Kind.Describe()
	for what, err := range map[string]error{"New": made, "Parse": parsed, "Validate": c.Validate(),
		"Describe": described} {
		if err == nil || !strings.Contains(err.Error(), "nsa") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestGuide holds the Go lines of docs/adding-a-kind.md against the kind that it adds.
func TestGuide(t *testing.T) {
	text := map[string]string{}
	for _, name := range []string{"mfa.go", "kinds.go", "../docs/adding-a-kind.md"} {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text[name] = string(raw)
	}
	blocks := strings.Split(text["../docs/adding-a-kind.md"], "```go\n")[1:]
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "```")
		if !strings.Contains(text["mfa.go"]+text["kinds.go"], code) {
			t.Errorf("attention has not the lines\n%s", code)
		}
	}
	if len(blocks) < 4 {
		t.Errorf("the guide has %d pieces of code", len(blocks))
	}
}
