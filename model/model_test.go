package model

import (
	"strings"
	"testing"

	"headroom/attention"
)

// TestPaperTotals holds the parameters of all models of the paper's Tables 7 to 10 to the last digit, and those of
// MLRA's paper and of TPA's to what their authors' files add up to.
func TestPaperTotals(t *testing.T) {
	totals := map[string]int64{
		"183m-mha": 183454464, "183m-gqa-4": 183528192, "183m-mqa": 183528192, "183m-gta-4": 183399552, "183m-mla": 183652992,
		"183m-gla-2": 183505536,
		"433m-mha":   433767424, "433m-gqa-4": 433767424, "433m-mqa": 433767424, "433m-gta-4": 433571584,
		"433m-mla":     433547008,
		"433m-gla-2":   433891072,
		"433m-gla_q-2": 433891072,
		"876m-mha":     876553728, "876m-gqa-4": 876553728, "876m-mqa": 876553728, "876m-gta-4": 876554880,
		"876m-mla": 876732672, "876m-gla-2": 876732672,
		"876m-gla_q-2": 876437760,
		"1471m-mha":    1471121408, "1471m-gqa-4": 1470826496, "1471m-gta-4": 1471221248, "1471m-mla": 1470582272,
		"1471m-gla-2": 1470778880,
		"2873m-mha":   2872593408, "2873m-gqa-6": 2872593408, "2873m-mqa": 2872003584, "2873m-mlra-2": 2872630272,
		"2873m-mlra-4": 2873220096,
		"124m-tpa":     124361472, "353m-tpa": 354042880, "773m-tpa": 773792000, "1550m-tpa": 1555969600,
	}
	if len(Presets()) != len(totals) {
		t.Errorf("%d presets, the papers have %d models", len(Presets()), len(totals))
	}
	for name, want := range totals {
		size, kind, _ := strings.Cut(name, "-")
		c, a, err := Preset(size, kind)
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(c, a)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Count().Parameters; got != want {
			t.Errorf("%s: %d parameters, the paper has %d", name, got, want)
		}
	}
}

// TestPaperCache holds the cache of the largest size of each paper in bf16, per token, layer and device, at 1, 2,
// 4 and 8 devices.
func TestPaperCache(t *testing.T) {
	for name, want := range map[string][4]int{
		"1471m-mha": {8192, 4096, 2048, 1024}, "1471m-gqa-4": {2048, 1024, 512, 512},
		"1471m-gta-4": {1152, 640, 384, 384}, "1471m-gla-2": {1152, 640, 640, 640}, "1471m-mla": {1152, 1152, 1152, 1152},
		"2873m-mlra-2": {1152, 640, 384, 384}, "2873m-mlra-4": {1152, 640, 384, 384},
	} {
		size, kind, _ := strings.Cut(name, "-")
		c, a, err := Preset(size, kind)
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(c, a)
		if err != nil {
			t.Fatal(err)
		}
		for i, devices := range []int{1, 2, 4, 8} {
			if got := m.CacheBytes(devices, attention.BF16) / c.Layers; got != want[i] {
				t.Errorf("%s on %d devices: %d bytes, the paper has %d", name, devices, got, want[i])
			}
		}
	}
}
