package model_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/internal/safetensors"
	"headroom/model"
)

// TestCheckpoint: a directory gives back the model, what was said of it, and every bit of its weights.
func TestCheckpoint(t *testing.T) {
	for _, name := range everyKind() {
		a := config(t, name)
		a.Window, a.Pattern, a.WindowRopeTheta = 5, "window,window,full", 300
		m := newTiny(t, a, 8)
		dir := t.TempDir()
		must(t, m.Save(dir, m.store(t), map[string]string{"tokenizer": "bytes"}))
		loaded, extra, err := model.Load(dir)
		must(t, err)
		if loaded.Config != m.Config || loaded.Attention != m.Attention.Resolve() || extra["tokenizer"] != "bytes" {
			t.Errorf("%s: loaded %+v %+v %v", name, loaded.Config, loaded.Attention, extra)
		}
		s := newTiny(t, loaded.Attention, 9).store(t)
		must(t, loaded.LoadValues(dir, s))
		for _, p := range loaded.Params() {
			x, err := s.Value(p.Name)
			must(t, err)
			if !slices.Equal(x, m.weights[p.Name]) {
				t.Errorf("%s: %s changed on its way through the file", name, p.Name)
			}
		}
	}
}

// TestOtherCheckpoint: a checkpoint of another shape is refused with the tensor and both shapes, and the values that
// were there stay.
func TestOtherCheckpoint(t *testing.T) {
	gqa := newTiny(t, config(t, "gqa-2"), 10)
	for name, want := range map[string]string{
		"mha":   "tensor blocks.0.attn.Wk is [16 32], this model's is [16 16]",
		"gta-2": "has no tensor blocks.0.attn.Wk",
	} {
		dir, other := t.TempDir(), newTiny(t, config(t, name), 11)
		must(t, other.Save(dir, other.store(t), nil))
		s := gqa.store(t)
		if err := gqa.LoadValues(dir, s); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: error %v, not %s", name, err, want)
		}
		if x, err := s.Value("embed"); err != nil || !slices.Equal(x, gqa.weights["embed"]) {
			t.Errorf("%s: the refused checkpoint changed the embedding (%v)", name, err)
		}
	}

	c := gqa.Config
	c.Tie = true
	tied, err := model.New(c, gqa.Attention)
	must(t, err)
	dir, s := t.TempDir(), gqa.store(t)
	must(t, gqa.Save(dir, s, nil))
	if err := tied.LoadValues(dir, s); err == nil ||
		!strings.HasSuffix(err.Error(), "has a tensor head that this model does not have") {
		t.Errorf("a head too many: error %v", err)
	}
}

// TestNotFinite: weights that no model computes with are neither written nor read.
func TestNotFinite(t *testing.T) {
	m := newTiny(t, config(t, "gqa-2"), 8)
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		dir, store := t.TempDir(), m.store(t)
		must(t, m.Save(dir, store, nil))
		path := filepath.Join(dir, model.WeightsFile)
		text, err := os.ReadFile(path)
		must(t, err)
		binary.LittleEndian.PutUint32(text[len(text)-8:], math.Float32bits(bad))
		must(t, os.WriteFile(path, text, 0o666))
		if err := m.LoadValues(dir, store); err == nil ||
			!strings.Contains(err.Error(), fmt.Sprintf(" is %v; use a checkpoint from before training diverged", bad)) {
			t.Errorf("loaded %v: %v", bad, err)
		}
		x, err := store.Value("norm")
		must(t, err)
		x[3] = bad
		must(t, store.Set("norm", x))
		if err := m.Save(t.TempDir(), store, nil); err == nil ||
			!strings.Contains(err.Error(), "tensor norm is not finite: value 3 of 16 is ") {
			t.Errorf("saved %v: %v", bad, err)
		}
	}
}

// TestForeignFiles: what this program did not write, or not wholly, is an error of one line.
func TestForeignFiles(t *testing.T) {
	one := safetensors.Tensor{Name: "a", DType: safetensors.F32, Shape: []int{1}, Values: func() ([]float32, error) {
		return []float32{1}, nil
	}}
	for want, write := range map[string]func(path string) error{
		"no such file":         func(string) error { return nil },
		"too few for a header": func(path string) error { return os.WriteFile(path, []byte("abc"), 0o644) },
		"says nothing of its": func(path string) error {
			return safetensors.Write(path, nil, []safetensors.Tensor{one})
		},
		"layers must be positive": func(path string) error {
			return safetensors.Write(path, map[string]string{"headroom": "{}"}, nil)
		},
		"was it written by another prog": func(path string) error {
			return safetensors.Write(path, map[string]string{"headroom": "[]"}, nil)
		},
	} {
		dir := t.TempDir()
		must(t, write(filepath.Join(dir, model.WeightsFile)))
		if _, _, err := model.Load(dir); err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, not %q", err, want)
		}
	}
}

// TestOlderQueryNorm: a checkpoint of GLA_q that does not say how it norms the query latent norms it whole, as all did
// once; one that is written today says it.
func TestOlderQueryNorm(t *testing.T) {
	c, a := model.Default(), attention.Default()
	a.Kind, a.Groups, a.RopeDim = attention.GLAQ, 2, 0
	m, err := model.New(c, a)
	must(t, err)
	dir := t.TempDir()
	zero := map[string][]float32{}
	for _, p := range m.Params() {
		zero[p.Name] = make([]float32, p.Size())
	}
	must(t, m.Write(dir, func(name string) ([]float32, error) { return zero[name], nil }, nil))
	path := filepath.Join(dir, model.WeightsFile)
	written, _, err := model.Load(dir)
	must(t, err)
	f, err := safetensors.Open(path)
	must(t, err)
	said := f.Metadata["headroom"]
	must(t, f.Close())
	const parts = `"query_norm":"parts"`
	if written.Attention.QueryNorm != attention.PartsNorm || !strings.Contains(said, parts) {
		t.Errorf("the query norm of a new model is read as %q from %s", written.Attention.QueryNorm, said)
	}
	for _, older := range []string{strings.Replace(said, parts+",", "", 1),
		strings.Replace(said, parts, `"query_norm":""`, 1)} {
		must(t, safetensors.Write(path, map[string]string{"headroom": older}, nil))
		if read, _, err := model.Load(dir); err != nil || read.Attention.QueryNorm != attention.WholeNorm {
			t.Errorf("an older checkpoint's query norm is read as %q: %v; it said %s", read.Attention.QueryNorm, err, older)
		}
	}
}

// TestValidate breaks one rule at a time.
func TestValidate(t *testing.T) {
	if err := model.Default().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(c *model.Config){
		"model: layers must be positive, it is 0":               func(c *model.Config) { c.Layers = 0 },
		"model: layers must be at most 10000, it is 1000000000": func(c *model.Config) { c.Layers = 1e9 },
		"model: vocab must be positive, it is -1":               func(c *model.Config) { c.Vocab = -1 },
		"model: norm_eps must be between 0 and 1, it is 1":      func(c *model.Config) { c.NormEps = 1 },
		"model: init must be scaled or plain, it is small":      func(c *model.Config) { c.Init = "small" },
		"model: init_std must be between 0 and 10, it is -0.5":  func(c *model.Config) { c.InitStd = -0.5 },
	} {
		c := model.Default()
		spoil(&c)
		if err := c.Validate(); err == nil || err.Error() != want {
			t.Errorf("error %v, not %s", err, want)
		}
	}
	if _, _, err := model.Preset("1471m", "mqa"); err == nil ||
		!strings.HasPrefix(err.Error(), "model: the paper has no 1471m-mqa; there are 124m-tpa, 1471m-gla-2, ") {
		t.Errorf("a preset that the paper does not have: %v", err)
	}
}

// TestFLOPs counts the products of a tiny model by hand: C 16, F 24, V 11, two layers of H·D = 32. Norms and biases do
// not count, whatever their shape.
func TestFLOPs(t *testing.T) {
	const T, mlp, head = 9, 3 * 16 * 24, 11 * 16
	for name, want := range map[string]struct{ weights, query, value int }{
		"gqa-2":   {16*32 + 2*16*16 + 32*16, 8, 8},
		"gta-2":   {16*32 + 16*16 + 16*4 + 32*16, 8, 8},
		"mfa":     {16*8 + 8*32 + 2*16*8 + 32*16, 8, 8},
		"mla":     {16*64 + 64*48 + 16*32 + 16*4 + 32*64 + 32*16, 12, 8},
		"gla-2":   {16*64 + 64*48 + 16*32 + 16*4 + 32*32 + 32*16, 12, 8},
		"gla_q-2": {16*64 + 32*48 + 16*32 + 16*4 + 32*32 + 32*16, 12, 8},
	} {
		m := newTiny(t, config(t, name), 12)
		// A token sees (T+1)/2 others on average, each for a product with the query and one with the weight.
		sum := 2*(2*(want.weights+mlp)+head) + 2*4*(want.query+want.value)*(T+1)
		if got := m.ForwardFLOPs(T); got != float64(sum) {
			t.Errorf("%s: %v operations a token, by hand %d", name, got, sum)
		}
	}
	m := newTiny(t, config(t, "gqa-2"), 12)
	if got := m.TrainFLOPs(10); got != float64(6*m.Count().Parameters)+6*2*16*10 {
		t.Errorf("training takes %v operations a token", got)
	}
}
