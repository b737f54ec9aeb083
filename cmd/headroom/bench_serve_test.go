package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"headroom/serve/load"
)

// TestBenchServe starts a server for each of two kinds, puts two loads on it, and reads the report.
func TestBenchServe(t *testing.T) {
	t.Chdir(t.TempDir())
	cmd := program(t, "bench", "serve", "--presets", "quickstart", "--attention", "gqa-4,gla-2", "--concurrency", "2", "--rate", "100", "--requests", "6",
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
		if name := []string{"quickstart gqa-4", "quickstart gla-2"}[i/2]; r.Name != name || r.Requests != 6 || r.Failed+r.Refused != 0 || r.Tokens < 12 || r.Tokens > 30 {
			t.Errorf("%+v", r)
		}
	}
	if _, err := os.Stat("x.svg"); err != nil {
		t.Error(err)
	}
	for line, want := range map[string]string{
		"bench serve": "give the URL", "bench serve http://x --presets y": "give the URL", "bench serve http://x --prompt 0": "must be lengths",
		"bench serve http://x --plot x.pdf": ".png or .svg", "bench serve http://x --concurrency -1": "either a concurrency or a rate",
		"bench serve http://127.0.0.1:1": "127.0.0.1:1",
	} {
		if code, _, logs := headroom(strings.Fields(line)...); code == 0 || !strings.Contains(logs, want) {
			t.Errorf("%s: code %d, %s", line, code, logs)
		}
	}
}
