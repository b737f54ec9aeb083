package lab

import (
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"headroom/attention"
)

// TestMeasureCached measures a trained run through caches of every type: in float32 as the forward pass does, to the
// blocks, and in the others near it, with as many bytes as the layout says.
func TestMeasureCached(t *testing.T) {
	dir := shards(t)
	for _, kind := range []string{"gqa", "gta", "mla", "gla"} {
		text := strings.Replace(tiny(dir), "groups: 2", "groups: 2, rope_dim: 4, kind: "+kind, 1)
		if kind == "mla" {
			text = strings.Replace(text, "groups: 2", "groups: 1", 1)
		}
		run := filepath.Join(t.TempDir(), "run")
		config := load(t, text, "train.steps=30", "train.lr=1e-2")
		if _, err := (Run{Dir: run, Config: config}).Do(context.Background()); err != nil {
			t.Fatal(err)
		}
		for _, how := range [][3]int{{0, 0, 8}, {5, 333, 3}} { // stride, tokens and batch
			checkpoint, c, err := Checkpoint(run)
			if err != nil {
				t.Fatal(err)
			}
			c.Eval.Stride, c.Eval.Tokens, c.Eval.Batch = how[0], how[1], how[2]
			forward, _, err := Measure(context.Background(), checkpoint, c)
			if err != nil {
				t.Fatal(err)
			}
			all, err := MeasureCached(context.Background(), checkpoint, c, attention.CacheTypes)
			if err != nil {
				t.Fatal(err)
			}
			want := forward[0]
			for i, near := range []float64{1e-5, 3e-3, 3e-2} {
				got := all[i].Sets[0]
				off := math.Abs(got.NLL - want.NLL)
				if !(off < near) || got.Tokens != want.Tokens || got.Bytes != want.Bytes || got.Set != want.Set ||
					len(got.Blocks) != len(want.Blocks) || i > 0 && got.NLL == all[0].Sets[0].NLL {
					t.Errorf("%s %v in %s: %+v, forward %+v", kind, how, all[i].Cache, got, want)
				}
				if all[i].TokenBytes != map[string][3]int{"gqa": {128, 64, 36}, "gta": {80, 40, 26}, "mla": {144, 72, 41},
					"gla": {144, 72, 42}}[kind][i] {
					t.Errorf("%s in %s: %d bytes a token", kind, all[i].Cache, all[i].TokenBytes)
				}
			}
			lines := CachedMeasurements(all)
			if strings.Count(lines, "\n") != 3 || !strings.Contains(lines, "of fp32's perplexity") {
				t.Errorf("printed as %q", lines)
			}
		}
	}
}

// TestCacheTypes: what is no type, and what a device has no kernels for, is one line that says what there is.
func TestCacheTypes(t *testing.T) {
	if _, err := CacheTypes([]string{"fp32", "int8"}); err == nil ||
		err.Error() != `attention: cache-type must be fp32, bf16 or fp8, not "int8"` {
		t.Errorf("an unknown type: %v", err)
	}
	if types, err := CacheTypes([]string{"fp8", "fp32", "fp8"}); err != nil || len(types) != 2 {
		t.Errorf("types named twice: %v, %v", types, err)
	}
	for _, c := range []struct {
		device, precision string
		cache             attention.CacheType
		want              string
	}{
		{"cuda", "fp32", attention.FP8,
			"lab: a cache in fp8 has no kernels beside a precision of fp32 on cuda: leave cache-type out, or take fp8 " +
				"beside bf16"},
		{"cuda", "fp32", attention.BF16,
			"lab: a cache in bf16 has no kernels beside a precision of fp32 on cuda: leave cache-type out, or take fp8 " +
				"beside bf16"},
		{"cpu", "", "int8", `attention: cache-type must be fp32, bf16 or fp8, not "int8"`},
	} {
		if _, err := Decoder(c.device, c.precision, 1, c.cache); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for cache, want := range map[attention.CacheType]attention.CacheType{"": attention.FP32, "fp8": attention.FP8} {
		on, err := Decoder("cpu", "", 2, cache)
		if err != nil || on.Cache() != want || on.ElementBytes() != 4 {
			t.Errorf("a cache of %q: %v", cache, err)
		}
	}
}
