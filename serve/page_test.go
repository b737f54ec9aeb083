package serve

import (
	"os/exec"
	"strings"
	"testing"
)

// TestPage loads the page in a headless Chromium, which completes a prompt; without Chromium it is skipped.
func TestPage(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium")
	}
	s := start(t, tiny(t, "gta-2"), Config{})
	out, err := exec.CommandContext(t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu",
		"--user-data-dir="+t.TempDir(),
		"--virtual-time-budget=3000", "--dump-dom", s.url+"/#prompt=hello&max_tokens=5&temperature=0&go").Output()
	if err != nil {
		t.Fatal(err)
	}
	page := string(out)
	if n := strings.Count(page, `<button type="button" class="p`); n == 0 || n > 5 {
		t.Errorf("%d tokens are shown, not 1 to 5", n)
	}
	for _, want := range []string{"tiny, context 96", "of 24 pages of 64 tokens in use", "the first came after",
		`<span class="prompt">hello</span>`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
}

// TestPageWaitsForTheKey runs the page's script in node, beside a server that wants a key: it asks for /status once,
// and goes on when there is a key.
func TestPageWaitsForTheKey(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node")
	}
	s := start(t, tiny(t, "mha"), Config{Keys: []string{"open sesame"}})
	out, err := exec.CommandContext(t.Context(), node, "testdata/page_key.mjs", "page/page.js",
		s.url, "open sesame").CombinedOutput()
	if want := "without a key: /status\nwith a key: /status /tokenizer_info /status /status\n"; err != nil ||
		string(out) != want {
		t.Errorf("%v: %s, want %s", err, out, want)
	}
}
