package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// analyzed is what the tests read of analyze --json.
type analyzed struct {
	GPU     struct{ Name string }
	Results []struct {
		Name       string
		Parameters int64
		Devices    []struct {
			CacheBytes int `json:"cache_bytes"`
			Decode     []struct {
				Queries   int
				Intensity float64
				Memory    bool
			}
		}
	}
}

// TestAnalyze reproduces the paper's figures by the command: cache bytes per device, and intensity at 128 heads and
// 8192 tokens.
func TestAnalyze(t *testing.T) {
	run := func(args ...string) (r analyzed) {
		t.Helper()
		code, out, logs := headroom(append([]string{"analyze", "--json"}, args...)...)
		if code != 0 || logs != "" {
			t.Fatalf("code %d, %s", code, logs)
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := run("1471m-gta-4", "1471m-gla-2")
	if r.GPU.Name != "H100" || len(r.Results) != 2 || r.Results[0].Parameters != 1471221248 {
		t.Fatalf("%+v", r)
	}
	for i, want := range [][]int{{1152, 640, 384, 384}, {1152, 640, 640, 640}} {
		for j, d := range r.Results[i].Devices {
			if d.CacheBytes != want[j] {
				t.Errorf("%s: %d bytes, want %d", r.Results[i].Name, d.CacheBytes, want[j])
			}
		}
	}
	r = run("1471m-gta-4", "1471m-gla-2", "1471m-gqa-4", "--cache-type", "fp8")
	for i, want := range [][]int{{644, 386, 257, 257}, {642, 385, 385, 385}, {1032, 516, 258, 258}} {
		for j, d := range r.Results[i].Devices {
			if d.CacheBytes != want[j] {
				t.Errorf("%s in fp8: %d bytes, want %d", r.Results[i].Name, d.CacheBytes, want[j])
			}
		}
	}
	r = run("1471m-mla", "1471m-gla-2", "--set", "attention.heads=128")
	for i, want := range [][]float64{{234.8, 456.6}, {113.6, 224.1}} {
		for q, intensity := range want {
			if got := r.Results[i].Devices[i].Decode[q]; math.Abs(got.Intensity-intensity) > 0.05 ||
				got.Memory != (got.Intensity < 295) {
				t.Errorf("%s: %+v, the paper has %v", r.Results[i].Name, got, intensity)
			}
		}
	}
	code, out, _ := headroom("analyze", "876m-gqa-4", "--flops", "1e15", "--bandwidth", "2e12")
	for _, want := range []string{"876m-gqa-4  gqa-4      876553728 ", "custom: 1000 TFLOP/s, 2 TB/s, ridge at 500.0",
		"k 2x96 sharded, v 2x96 sharded", "2x    k 1x96 replicated"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("code %d, no %q in\n%s", code, want, out)
		}
	}
	for args, want := range map[string]string{
		"analyze":                      "headroom: requires at least 1 arg(s)",
		"analyze none.yaml":            "headroom: configs: open none.yaml",
		"analyze 183m-mha --gpu V1":    `headroom: roofline: no figures for GPU "V1"`,
		"analyze 183m-mha --context 0": "headroom: model: the context to decode in must be positive, it is 0",
		"analyze 183m-mha --flops -1": "headroom: analyze: flops and bandwidth must be positive and finite, they are " +
			"-1 and 0",
		"analyze 183m-mha --bandwidth NaN": "headroom: analyze: flops and bandwidth must be positive and finite, they are " +
			"0 and NaN",
	} {
		if code, out, logs := headroom(strings.Fields(args)...); code != 2 || out != "" || !strings.HasPrefix(logs, want) {
			t.Errorf("%s: code %d, %q, %q", args, code, out, logs)
		}
	}
}

func TestAnalyzePlot(t *testing.T) {
	for name, magic := range map[string]string{"r.png": "\x89PNG", "r.svg": "<?xml"} {
		file := filepath.Join(t.TempDir(), name)
		if code, _, logs := headroom("analyze", "183m-mla", "183m-gqa-4", "--plot", file); code != 0 {
			t.Fatal(logs)
		}
		if picture, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(picture), magic) {
			t.Errorf("%s begins with %.8q (%v)", name, picture, err)
		}
	}
	if code, _, logs := headroom("analyze", "183m-mla", "--plot", "r.pdf"); code != 2 ||
		logs != "headroom: analyze: a picture is .png or .svg, not r.pdf\n" {
		t.Errorf("code %d, %q", code, logs)
	}
}

// TestPredict: a prediction from the roofline, one from measured steps, and what cannot be predicted.
func TestPredict(t *testing.T) {
	type answer struct {
		Predictions []struct {
			Devices int
			Rows    int
			Seconds float64 `json:"step_seconds"`
			Cache   float64 `json:"cache_bytes_per_token"`
			Worst   float64 `json:"fit_error"`
		}
	}
	run := func(args ...string) (a answer) {
		t.Helper()
		code, out, logs := headroom(append([]string{"analyze", "--json"}, args...)...)
		if code != 0 || logs != "" || json.Unmarshal([]byte(out), &a) != nil {
			t.Fatalf("code %d, %s%s", code, out, logs)
		}
		return a
	}
	a := run("1471m-mla", "1471m-gla-2", "--gpu", "H200", "--tp", "2", "--dp", "4", "--batch", "128").Predictions
	if len(a) != 2 || a[0].Devices != 8 || a[0].Rows != 32 || a[0].Cache != 24*1152 || a[1].Cache != 24*640 ||
		a[1].Seconds >= a[0].Seconds {
		t.Errorf("%+v", a)
	}
	b := run("1471m-mla", "--gpu", "H200", "--tp", "2", "--dp", "4", "--batch", "128", "--cache-type", "fp8").Predictions
	if b[0].Cache != 24*(512+1+128) || b[0].Seconds >= a[0].Seconds {
		t.Errorf("in fp8 %+v, in bf16 %+v", b, a)
	}
	const measured = "../../docs/results/decode-engine-h200/steps.json"
	one := run("../../docs/examples/decode-876m.yaml", "--set", "attention.kind=gqa", "--gpu", "H200", "--batch", "64",
		"--measured", measured).Predictions[0]
	if math.Abs(one.Seconds/4.959e-3-1) > one.Worst || one.Worst > 0.15 { // what was measured
		t.Errorf("%+v", one)
	}
	for args, want := range map[string]string{
		"876m-mla --tp 2":                            "needs --batch",
		"876m-mla --cache-type int8":                 "must be fp32, bf16 or fp8",
		"876m-mla --batch 4 --measured ../../go.mod": "is not what bench decode --json prints",
		"876m-mla --batch 4 --measured " + measured:  "measured no mla model",
		"876m-mla --batch 4 --tp 5":                  "cannot be divided among 5 devices",
		"876m-mla --batch 4 --memory 1e9":            "does not fit",
		"876m-mla --batch 4 --tp 4 --attention-dp 3": "must be positive",
		"876m-mla --batch 4 --tp 2 --latency -1":     "must not be negative",
		"876m-mla --batch 4 --measured no/such/file": "no such file",
	} {
		if code, _, logs := headroom(append([]string{"analyze"}, strings.Fields(args)...)...); code == 0 ||
			!strings.Contains(logs, want) || strings.Count(strings.TrimSpace(logs), "\n") > 0 {
			t.Errorf("%s: code %d, %s, want %q", args, code, logs, want)
		}
	}
}
