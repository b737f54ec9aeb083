package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/internal/roofline"
	"headroom/kernels"
)

// TestBenchAttentionRefuses what no kernel supports, by name, before a GPU is asked for.
func TestBenchAttentionRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"--attention gta-3":                "attention: gta: 3 key/value heads do not divide 64 query heads",
		"--attention gla-2 --head-dim 100": "kernels: decode: latent: value dimension [128 192 256 384 512]: 200",
		"--attention mfa --head-dim 256":   "kernels: decode: kv: value dimension [64 96 128]: 256",
		"--attention gla-2 --query 9":      "kernels: decode: 1 to 8 new tokens: 9",
		"--page 3":                         "kernels: decode: page size: a power of two from 1 to 256: 3",
		"--plot x.gif":                     "bench attention: a picture is .png or .svg, not x.gif",
	} {
		code, out, logs := headroom(append([]string{"bench", "attention"}, strings.Fields(args)...)...)
		if code != 2 || out != "" || strings.TrimSpace(logs) != "headroom: "+want {
			t.Errorf("%s: exit %d, %q, want %q", args, code, logs, want)
		}
	}
}

// TestBenchAttentionProblems holds the shapes of kinds against those of the project's own table.
func TestBenchAttentionProblems(t *testing.T) {
	b := attentionBench{kinds: []string{"gta-8", "gqa-8", "gla-2", "mla", "mfa"}, batches: []int{128},
		lengths: []int{8192}, queries: []int{1}, heads: []int{64}, pages: []int{64}, headDim: 128}
	all, err := b.problems()
	if err != nil || len(all) != 5 {
		t.Fatal(all, err)
	}
	for i, want := range []kernels.DecodeShape{
		{Cache: kernels.Tied, B: 128, T: 1, H: 64, G: 8, P: 64, R: 64, Dv: 128, Page: 64},
		{Cache: kernels.KV, B: 128, T: 1, H: 64, G: 8, P: 128, Dv: 128, Page: 64},
		{Cache: kernels.Latent, B: 128, T: 1, H: 64, G: 2, P: 256, R: 64, Dv: 256, Page: 64},
		{Cache: kernels.Latent, B: 128, T: 1, H: 64, G: 1, P: 512, R: 64, Dv: 512, Page: 64},
		{Cache: kernels.KV, B: 128, T: 1, H: 64, G: 1, P: 128, Dv: 128, Page: 64},
	} {
		if all[i].DecodeShape != want {
			t.Errorf("%s is %+v, not %+v", all[i].Name, all[i].DecodeShape, want)
		}
	}
	if table, err := (&attentionBench{pages: []int{1, 64}}).problems(); err != nil || len(table) != 34 {
		t.Errorf("the table at two page sizes has %d rows (%v)", len(table), err)
	}
	b.caches, b.kinds = []string{"bf16", "fp8"}, b.kinds[:2]
	if all, err = b.problems(); err != nil || len(all) != 4 || all[0].FP8 || !all[1].FP8 || all[1].Name != all[0].Name {
		t.Errorf("two types of cache: %+v (%v)", all, err)
	}
	b.caches = []string{"int8"}
	if _, err = b.problems(); err == nil {
		t.Error("a cache in int8 is not refused")
	}
}

func TestPlotDecode(t *testing.T) {
	for _, name := range []string{"r.png", "r.svg"} {
		file := filepath.Join(t.TempDir(), name)
		times := []kernels.DecodeTime{{Name: "GTA-8 H64", Intensity: 15, TFLOPs: 58},
			{Name: "GTA-8 H64", Intensity: 30, TFLOPs: 110}, {Name: "MLA H128", Intensity: 457, TFLOPs: 560}}
		if err := plotDecode(file, roofline.GPU{Name: "test", FLOPs: 780e12, Bandwidth: 4.3e12}, times); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(file); err != nil || st.Size() < 5000 {
			t.Errorf("%s is no picture (%v)", name, err)
		}
	}
}
