package watch

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// once ends a stream of events when all that is known has been sent: Chromium waits for its end.
type once struct {
	http.ResponseWriter
	end context.CancelFunc
}

func (o *once) Flush() {
	http.NewResponseController(o.ResponseWriter).Flush()
	o.end()
}

// TestPage loads the page in a headless Chromium, which draws two runs, one of them without any evaluation; without
// Chromium it is skipped.
func TestPage(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium")
	}
	root := t.TempDir()
	put(t, filepath.Join(root, "long"), 1, 12, 0)
	put(t, filepath.Join(root, "short"), 1, 3, 0)
	w := open(t, root)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		w.handler(nil).ServeHTTP(&once{rw, cancel}, r.WithContext(ctx))
	}))
	defer s.Close()
	out, err := exec.CommandContext(t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu",
		"--user-data-dir="+t.TempDir(),
		"--virtual-time-budget=1500", "--dump-dom", s.URL).Output()
	if err != nil {
		t.Fatal(err)
	}
	page := string(out)
	// five charts of two runs, the loss raw and smoothed, and the perplexity of one
	if n := strings.Count(page, "<path "); n != 5*2+2+1 {
		t.Errorf("%d curves", n)
	}
	for _, want := range []string{"perplexity on fox", "loss, smoothed by 0.8; faint: as it was", "gradient norm",
		">4.6193<", ">1 MiB<", "fox 88.00"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
}

// TestTicksHaveNamesOfTheirOwn runs the page's own functions in Node on axes of every length; without Node it is
// skipped.
func TestTicksHaveNamesOfTheirOwn(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node")
	}
	_, code, _ := strings.Cut(string(page), "// a number in few digits")
	code, _, ok := strings.Cut(code, "const smoothed")
	if !ok {
		t.Fatal("the page has no functions of ticks")
	}
	out, err := exec.Command(node, "-e", "// a number in few digits"+code+`
		const bad = [];
		for (const at of [0, 1e-9, 3e-4, 0.7, 4.61234, 99.5, 12345, 987654, 2.5e6, 7.2e9, 3e12])
			for (let length = Math.max(at, 1e-9) * 1e-6; length <= Math.max(at, 1) * 10; length *= 1.7) {
				const names = named(ticks(at, at + length, 5));
				if (new Set(names).size !== names.length) bad.push([at, length, names.join(" ")]);
			}
		console.log(JSON.stringify(bad), named(ticks(0, 400, 5)).join(" "), named(ticks(4.6121, 4.6125, 4)).join(" "));`).CombinedOutput()
	if want := "[] 0 100 200 300 400 4.6121 4.6122 4.6123 4.6124 4.6125\n"; err != nil || string(out) != want {
		t.Errorf("%v, %s, not %s", err, out, want)
	}
}
