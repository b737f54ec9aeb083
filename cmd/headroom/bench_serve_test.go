package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"headroom/serve/load"
)

// TestBenchServe starts a server for each of two kinds, puts two loads on it, and reads the report.
func TestBenchServe(t *testing.T) {
	t.Chdir(t.TempDir())
	cmd := program(t, "bench", "serve", "--presets", "quickstart", "--attention", "gqa-4,gla-2", "--concurrency", "2",
		"--rate", "100", "--requests", "6",
		"--prompt", "4-20", "--output", "2-5", "--json", "--plot", "x.svg")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var report struct{ Results []load.Result }
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(report.Results) != 4 {
		t.Fatalf("%d results", len(report.Results))
	}
	for i, r := range report.Results {
		if name := []string{"quickstart gqa-4", "quickstart gla-2"}[i/2]; r.Name != name || r.Requests != 6 ||
			r.Failed+r.Refused != 0 || r.Tokens < 12 || r.Tokens > 30 {
			t.Errorf("%+v", r)
		}
	}
	if _, err := os.Stat("x.svg"); err != nil {
		t.Error(err)
	}
	for line, want := range map[string]string{
		"bench serve": "give the URL", "bench serve http://x --presets y": "give the URL",
		"bench serve http://x --prompt 0":       "must be lengths",
		"bench serve http://x --plot x.pdf":     ".png or .svg",
		"bench serve http://x --concurrency -1": "either a concurrency or a rate",
		"bench serve http://127.0.0.1:1":        "127.0.0.1:1",
		"bench serve http://x --load heavy":     "it must be long or mixed",
	} {
		if code, _, logs := headroom(strings.Fields(line)...); code == 0 || !strings.Contains(logs, want) {
			t.Errorf("%s: code %d, %s", line, code, logs)
		}
	}
}

// TestBenchServeLoads: a named load sets the flags that were not given, and a preset whose context is too short gets a
// longer one.
func TestBenchServeLoads(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, want := range map[string]string{
		"long": "[64] 8192 512 128 0", "mixed": "[64] 128-1024,4096-8192 64-512 256 -1", "": "[] 128-512 32-128 0 -1",
	} {
		var b serveBench
		cmd := benchServeFlags(&b)
		if err := cmd.ParseFlags([]string{"--load", name}); err != nil {
			t.Fatal(err)
		}
		if err := b.named(cmd.Flags()); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%v %s %s %d %d", b.concurrency, b.prompt, b.output,
			b.plan.Requests, b.plan.Warm); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	cmd := program(t, "bench", "serve", "--presets", "quickstart", "--load", "long", "--concurrency", "2", "--requests",
		"4", "--prompt", "150", "--output", "40", "--json")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var report struct{ Results []load.Result }
	if err := json.Unmarshal(out, &report); err != nil || len(report.Results) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	r := report.Results[0]
	if r.Failed+r.Refused != 0 || r.Requests != 4 || r.PromptTokens != 600 || r.Tokens != 160 || r.Limit[0] != 0 {
		t.Errorf("%+v", r)
	}
	if r.Busy.Seconds <= 0 || r.Busy.Seconds > r.Seconds || r.Decoding.Seconds > r.Busy.Seconds {
		t.Errorf("all busy %+v and decoding %+v of %v s", r.Busy, r.Decoding, r.Seconds)
	}
}
