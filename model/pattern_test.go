package model

import (
	"errors"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/internal/roofline"
)

func layer(t *testing.T, name string, headDim int) attention.Config {
	t.Helper()
	a := attention.Default()
	a.HeadDim = headDim
	var err error
	if a.Kind, a.Groups, err = attention.Parse(name); err != nil {
		t.Fatal(err)
	}
	return a
}

func patterned(t *testing.T, layers int, pattern ...attention.Config) *Transformer {
	t.Helper()
	c := Default()
	c.Layers = layers
	m, err := Patterned(c, pattern)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestPatternCounts: what is counted of a model whose layers differ is the sum of what the layers have.
func TestPatternCounts(t *testing.T) {
	a, b := layer(t, "gqa-2", 16), layer(t, "mla", 32)
	both, first, second := patterned(t, 5, a, b), patterned(t, 1, a), patterned(t, 1, b)
	none := 2*first.ForwardFLOPs(9) - patterned(t, 2, a).ForwardFLOPs(9) // what is outside of the layers
	if got, want := both.ForwardFLOPs(9), none+3*(first.ForwardFLOPs(9)-none)+
		2*(second.ForwardFLOPs(9)-none); got != want {
		t.Errorf("%v operations a token, the layers have %v", got, want)
	}
	for _, devices := range []int{1, 2, 4} {
		if got, want := both.CacheBytes(devices, attention.BF16), 3*first.CacheBytes(devices, attention.BF16)+
			2*second.CacheBytes(devices, attention.BF16); got != want {
			t.Errorf("%d bytes a token on %d devices, the layers have %d", got, devices, want)
		}
	}
	elements := 3*first.Count().CacheElements + 2*second.Count().CacheElements
	if got := both.Count().CacheElements; got != (elements+4)/5 {
		t.Errorf("%d elements a token and layer, of %d in five", got, elements)
	}
	for i := range 5 {
		want := first
		if i%2 == 1 {
			want = second
		}
		if both.CacheLayout(i).Elements() != want.CacheLayout(0).Elements() || both.LayerAttention(i) != want.Attention {
			t.Errorf("layer %d: %v by %+v", i, both.CacheLayout(i), both.LayerAttention(i))
		}
	}
	part, err := both.Shard(2)
	if err != nil {
		t.Fatal(err)
	}
	if got := part.LayerAttention(3); got.Kind != attention.MLA || got.Heads != 2 ||
		part.CacheBytes(1, attention.FP8) != both.CacheBytes(2, attention.FP8) {
		t.Errorf("a shard's layer 3 attends by %+v", got)
	}
}

// TestPatternIsNotOneAttention: what can only say one attention refuses layers that differ; a pattern of equals is no
// such.
func TestPatternIsNotOneAttention(t *testing.T) {
	a, b := layer(t, "gqa-2", 16), layer(t, "gqa-4", 16)
	never := func(string) ([]float32, error) { return nil, errors.New("nothing was to be written") }
	m := patterned(t, 4, a, a, b)
	if err := m.Write(t.TempDir(), never, nil); m.Uniform() || err == nil ||
		!strings.Contains(err.Error(), "a checkpoint says one attention for all layers") {
		t.Errorf("written: %v", err)
	}
	if _, err := m.Analyze("m", roofline.GPUs[0], 1024, attention.BF16); err == nil ||
		!strings.Contains(err.Error(), "the layers of this model differ") {
		t.Errorf("analyzed: %v", err)
	}
	if m := patterned(t, 4, a, a); !m.Uniform() {
		t.Error("layers that are equal differ")
	}
	if _, err := Patterned(Default(), nil); err == nil ||
		!strings.Contains(err.Error(), "at least one attention configuration") {
		t.Errorf("no pattern: %v", err)
	}
}

// TestWindowPattern: a pattern of windows is one configuration of all layers, whose counts are those of the layers, and
// no more than the window of a request is kept or read.
func TestWindowPattern(t *testing.T) {
	a := layer(t, "gqa-2", 16)
	a.Window, a.Pattern = 8, "window,window,full"
	c := Default()
	c.Layers, c.Context = 5, 32
	m, err := New(c, a)
	if err != nil {
		t.Fatal(err)
	}
	full, window := layer(t, "gqa-2", 16), a.Layer(0)
	if !m.Uniform() || m.LayerAttention(2) != full || m.LayerAttention(4) != window || m.LayerAttention(1).Window != 8 {
		t.Errorf("layers attend by %+v, %+v", m.LayerAttention(2), m.LayerAttention(4))
	}
	elements := m.CacheLayout(0).Elements()
	if got, want := m.RequestBytes(100, 1, attention.BF16), int64(2*elements*(4*8+100)); got != want {
		t.Errorf("a request of 100 tokens keeps %d bytes, not %d", got, want)
	}
	if got, want := m.RequestBytes(7, 1, attention.BF16), int64(2*elements*5*7); got != want {
		t.Errorf("a request of 7 tokens keeps %d bytes, not %d", got, want)
	}
	plain := patterned(t, 5, full)
	columns := float64(a.Heads * (16 + 16))
	fewer := 2 * columns * 4 * float64(32*33/2-(8*9/2+24*8)) / 32
	if got, want := plain.ForwardFLOPs(32)-m.ForwardFLOPs(32), fewer; got != want {
		t.Errorf("windows save %v operations a token forward, not %v", got, want)
	}
	saved := 12 * float64(c.Width) * 4 * (16 - (8 - 8.0*8/64))
	if got := plain.TrainFLOPs(32) - m.TrainFLOPs(32); got != saved {
		t.Errorf("windows save %v operations a token of training, not %v", got, saved)
	}
	r, err := m.Analyze("m", roofline.GPUs[0], 100, attention.BF16)
	if err != nil {
		t.Fatal(err)
	}
	part := r.Shards[0]
	if r.Window != 8 || r.WindowLayers != 4 || part.RowBytes != m.RequestBytes(100, 1, attention.BF16) {
		t.Errorf("analyzed as %+v", r)
	}
	var work attention.Work
	for _, S := range []int{8, 8, 100, 8, 8} {
		w := full.DecodeWork(m.CacheLayout(0), 1, S, 1, attention.BF16)
		work.FLOPs, work.Bytes = work.FLOPs+w.FLOPs, work.Bytes+w.Bytes
	}
	if got := part.Decode[0].Intensity; got != work.Intensity() {
		t.Errorf("an intensity of %v, by the layers %v", got, work.Intensity())
	}
}
