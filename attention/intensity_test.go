package attention_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"headroom/attention"
)

// paper is a kind by name at H query heads of D dims.
func paper(t *testing.T, name string, H, D int) (attention.Config, attention.Layout) {
	t.Helper()
	c := attention.Default()
	var err error
	if c.Kind, c.Groups, err = attention.Parse(name); err != nil {
		t.Fatal(err)
	}
	c.Heads, c.HeadDim = H, D
	layer, err := attention.New(c, attention.Place{Name: "a", Width: H * D, NormEps: 1e-5, Std: 1, OutStd: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c, layer.CacheLayout()
}

func TestIntensity(t *testing.T) {
	for name, want := range map[string]float64{
		"mha": 1, "gqa-4": 32, "gqa-8": 16, "mqa": 128, "gta-4": 64, "gta-8": 32, "mla": 256, "gla-2": 128, "gla-8": 32,
		"gla_q-2": 128, "mfa": 128, "mfa_kr": 256, "tpa": 64, "mlra-4": 256, "mlra-2": 128,
	} {
		c, layout := paper(t, name, 128, 128)
		for _, q := range []int{1, 2, 4} {
			if got := c.Intensity(q); got != want*float64(q) {
				t.Errorf("%s, %d queries: %v operations a byte, want %v", name, q, got, want*float64(q))
			}
		}
		// What is left out is the rope key, at most R/E of the cache and R/(K+V) of the operations.
		if exact := c.DecodeWork(layout, 1, 1<<30, 1, attention.BF16).Intensity(); math.Abs(exact/want-1) > 0.125 {
			t.Errorf("%s: %v in a long context, the formula has %v", name, exact, want)
		}
	}
}

// TestExactIntensity holds the paper's figures with rope, query and output traffic: 128 heads, 8192 tokens.
func TestExactIntensity(t *testing.T) {
	for _, c := range []struct {
		name       string
		devices    int
		one, twice float64
	}{
		{"mla", 1, 234.8, 456.6},
		{"gla-2", 2, 113.6, 224.1},
		{"mqa", 1, 126.0, 248.2},
	} {
		a, layout := paper(t, c.name, 128, 128)
		for q, want := range map[int]float64{1: c.one, 2: c.twice} {
			if got := a.DecodeWork(layout, q, 8192, c.devices, attention.BF16).Intensity(); math.Abs(got-want) > 0.05 {
				t.Errorf("%s, %d queries: %.2f operations a byte, the paper has %.1f", c.name, q, got, want)
			}
		}
	}
	a, layout := paper(t, "gla-2", 128, 128)
	if got := a.DecodeWork(layout, 1, 8192, 1, attention.BF16).Intensity(); math.Abs(got-126.03) > 0.01 {
		t.Errorf("gla-2 with one rope key for both latents: %.2f, want 126.03", got)
	}
}

func TestDecodeWork(t *testing.T) {
	a, layout := paper(t, "gta-4", 16, 128)
	w := a.DecodeWork(layout, 3, 10, 8, attention.BF16) // 2 heads, one tied state and the rope key on each device
	if want := (attention.Work{FLOPs: 2 * 10 * 3 * 2 * 256, Bytes: 2 * (10*(128+64) + 3*2*256)}); w != want {
		t.Errorf("%+v, want %+v", w, want)
	}
	w = a.DecodeWork(layout, 3, 10, 8, attention.FP8) // the state has a scale, and the rope key stays bf16
	if want := (attention.Work{FLOPs: 2 * 10 * 3 * 2 * 256, Bytes: 10*(128+1+2*64) + 2*3*2*256}); w != want {
		t.Errorf("in fp8 %+v, want %+v", w, want)
	}
}

// TestCacheTypes holds the bytes of a token and layer that docs/decode.md has, of 64 query heads of 128.
func TestCacheTypes(t *testing.T) {
	for name, want := range map[string][3]int{ // in fp32, bf16 and fp8
		"gqa-8": {8192, 4096, 2064}, "gta-8": {4352, 2176, 1160}, "mla": {2304, 1152, 641}, "gla-2": {2304, 1152, 642},
		"mfa_kr": {512, 256, 129}, "tpa": {3072, 1536, 1026},
	} {
		_, layout := paper(t, name, 64, 128)
		for i, c := range attention.CacheTypes {
			if got := layout.Bytes(1, c); got != want[i] {
				t.Errorf("%s in %s: %d bytes, want %d", name, c, got, want[i])
			}
		}
	}
	if err := attention.CacheType("").Validate(); err == nil {
		t.Error("no type is taken as a type")
	}
}

func TestDuplication(t *testing.T) {
	for name, want := range map[string][4]int{ // on 1, 2, 4 and 8 devices
		"mha": {1, 1, 1, 1}, "gqa-4": {1, 1, 1, 2}, "mqa": {1, 2, 4, 8}, "gta-4": {1, 1, 1, 2}, "gla-2": {1, 1, 2, 4},
		"gla-8": {1, 1, 1, 1},
		"mla":   {1, 2, 4, 8}, "mfa": {1, 2, 4, 8}, "mlra-2": {1, 1, 1, 2}, "mlra-4": {1, 1, 1, 2},
	} {
		c, layout := paper(t, name, 16, 128)
		for i, devices := range []int{1, 2, 4, 8} {
			got := c.Duplication(devices)
			if got != want[i] {
				t.Errorf("%s on %d devices: each head %d times, want %d", name, devices, got, want[i])
			}
			if layout[0].Replicated(devices) != (got > 1) {
				t.Errorf("%s on %d devices: replicated is %v at a duplication of %d", name, devices,
					layout[0].Replicated(devices), got)
			}
		}
	}
}

// TestElements holds the elements a device has, with D 128, by the paper's formulas.
func TestElements(t *testing.T) {
	const D = 128
	for name, want := range map[string][4]int{
		"mha":    {2 * D * 16, 2 * D * 8, 2 * D * 4, 2 * D * 2},
		"gqa-4":  {2 * D * 4, 2 * D * 2, 2 * D, 2 * D},
		"mqa":    {2 * D, 2 * D, 2 * D, 2 * D},
		"mfa_kr": {D, D, D, D},
		"tpa":    {4 * (D + 16), 4 * (D + 8), 4 * (D + 4), 4 * (D + 2)}, // factors over columns are on all devices
		"mfa":    {2 * D, 2 * D, 2 * D, 2 * D},
		"gta-4":  {D*4 + 64, D*2 + 64, D + 64, D + 64},
		"gla-2":  {2*D*2 + 64, 2*D + 64, 2*D + 64, 2*D + 64},
		"gla-8":  {2*D*8 + 64, 2*D*4 + 64, 2*D*2 + 64, 2*D + 64},
		"mla":    {4*D + 64, 4*D + 64, 4*D + 64, 4*D + 64},
		"mlra-2": {4*D + 64, 2*D + 64, D + 64, D + 64},
		"mlra-4": {4*D + 64, 2*D + 64, D + 64, D + 64},
	} {
		_, layout := paper(t, name, 16, D)
		for i, devices := range []int{1, 2, 4, 8} {
			if got := layout.ElementsPerDevice(devices); got != want[i] {
				t.Errorf("%s on %d devices: %d elements, want %d", name, devices, got, want[i])
			}
			if got := layout.Bytes(devices, attention.BF16); got != 2*want[i] {
				t.Errorf("%s on %d devices: %d bytes, want %d", name, devices, got, 2*want[i])
			}
		}
		if layout.Elements() != want[0] {
			t.Errorf("%s: %d elements in all, want %d", name, layout.Elements(), want[0])
		}
	}
}

func TestNames(t *testing.T) {
	for _, name := range append(attention.Names(), "gqa-12", "gta-1", "gla-8") {
		kind, groups, err := attention.Parse(name)
		if got := (attention.Config{Kind: kind, Groups: groups}).Name(); err != nil || got != name {
			t.Errorf("%s comes back as %s (%v)", name, got, err)
		}
	}
	for _, name := range []string{"", "gqa", "mha-2", "mla-1", "mfa-1", "gla-0", "gta--1", "gqa-x", "gqa-", "GQA-4", "nsa",
		"gla-2 ", "gqa-4-4"} {
		_, _, err := attention.Parse(name)
		if want := fmt.Sprintf("attention: %q is not a kind: mha, gqa-4, ", name); err == nil ||
			!strings.HasPrefix(err.Error(), want) {
			t.Errorf("Parse(%q): %v", name, err)
		}
	}
}

func kindWords() string {
	var all []string
	for _, k := range attention.Kinds {
		all = append(all, string(k))
	}
	return strings.Join(all, ", ")
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*attention.Config){
		"kind \"nsa\" is none of " + kindWords():                      func(c *attention.Config) { c.Kind = "nsa" },
		"gqa: heads and head_dim must be positive, they are 0 and 32": func(c *attention.Config) { c.Heads = 0 },
		"gqa: groups must be positive, it is 0":                       func(c *attention.Config) { c.Groups = 0 },
		"gqa: 3 key/value heads do not divide 4 query heads":          func(c *attention.Config) { c.Groups = 3 },
		"gla: 3 latent heads do not divide 4 query heads": func(c *attention.Config) {
			c.Kind, c.Groups = attention.GLA, 3
		},
		"gqa: rope_dim must be even and positive, it is 7": func(c *attention.Config) { c.RopeDim = 7 },
		"gta: rope_dim must be even and positive, it is 5": func(c *attention.Config) {
			c.Kind, c.HeadDim = attention.GTA, 10
		},
		"mla: rope_dim must be even and positive, it is -2": func(c *attention.Config) {
			c.Kind, c.RopeDim = attention.MLA, -2
		},
		"gta: rope_dim 34 is larger than head_dim 32": func(c *attention.Config) {
			c.Kind, c.RopeDim = attention.GTA, 34
		},
		"gla: latent_dim and query_latent_dim must be positive, they are -1 and 256": func(c *attention.Config) {
			c.Kind, c.LatentDim = attention.GLA, -1
		},
		"mfa: query_latent_dim must be positive, it is -1": func(c *attention.Config) {
			c.Kind, c.QueryLatentDim = attention.MFA, -1
		},
		"tpa: query_rank and kv_rank must be positive, they are 6 and -1": func(c *attention.Config) {
			c.Kind, c.KVRank = attention.TPA, -1
		},
		"mfa: rope_dim 34 is larger than head_dim 32": func(c *attention.Config) {
			c.Kind, c.RopeDim = attention.MFA, 34
		},
		"gla_q: 4 latent heads do not divide query_latent_dim 30": func(c *attention.Config) {
			c.Kind, c.QueryLatentDim = attention.GLAQ, 30
		},
		"mlra: 3 branches do not divide 4 latents": func(c *attention.Config) {
			c.Kind, c.Groups = attention.MLRA, 3
		},
		"mlra: 4 branches do not divide 2 latents": func(c *attention.Config) {
			c.Kind, c.Latents = attention.MLRA, 2
		},
		"mlra: 3 query heads cannot be divided among 4 latents of which each head reads 2": func(c *attention.Config) {
			c.Kind, c.Groups, c.Heads = attention.MLRA, 2, 3
		},
		"gqa: bias is paper or none, not \"all\"":    func(c *attention.Config) { c.Bias = "all" },
		"gqa: rope_theta must be above 1, it is 1":   func(c *attention.Config) { c.RopeTheta = 1 },
		"gqa: rope_theta must be above 1, it is NaN": func(c *attention.Config) { c.RopeTheta = math.NaN() },
	} {
		c := attention.Default()
		change(&c)
		if _, err := attention.New(c, attention.Place{Name: "a", Width: 128, NormEps: 1e-5, Std: 1, OutStd: 1}); fmt.Sprint(
			err) != "attention: "+want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := attention.Default().Validate(); err != nil {
		t.Error(err)
	}
}

// TestShardBranches: devices have latents of their own, and the heads that read these.
func TestShardBranches(t *testing.T) {
	for _, c := range []struct {
		name                     string
		size                     int
		heads, latents, branches int
		err                      string
	}{
		{"mlra-4", 1, 24, 4, 4, ""}, {"mlra-4", 2, 24, 2, 2, ""}, {"mlra-4", 4, 24, 1, 1, ""},
		{"mlra-2", 2, 12, 2, 2, ""}, {"mlra-2", 4, 12, 1, 1, ""},
		{"mlra-2", 3, 0, 0, 0, "4 latents cannot be divided among 3 devices, each of which needs one of its own"},
		{"mlra-4", 8, 0, 0, 0, "4 latents cannot be divided among 8 devices, each of which needs one of its own"},
		{"mlra-4", 0, 0, 0, 0, "4 latents cannot be divided among 0 devices, each of which needs one of its own"},
	} {
		a, _ := paper(t, c.name, 24, 128)
		part, err := a.Shard(c.size)
		if c.err != "" {
			if fmt.Sprint(err) != "attention: "+c.err {
				t.Errorf("%s on %d devices: %v, want %s", c.name, c.size, err, c.err)
			}
			continue
		}
		if err == nil {
			err = part.Validate()
		}
		if err != nil || part.Heads != c.heads || part.Latents != c.latents || part.Branches() != c.branches {
			t.Errorf("%s on %d devices: %d heads, %d latents of which each reads %d (%v), want %d, %d, %d", c.name, c.size,
				part.Heads, part.Latents, part.Branches(), err, c.heads, c.latents, c.branches)
		}
	}
}
