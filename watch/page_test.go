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

// TestPage loads the page in a headless Chromium, which draws two runs, one of them without any evaluation; without Chromium
// it is skipped.
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
	out, err := exec.CommandContext(t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(),
		"--virtual-time-budget=1500", "--dump-dom", s.URL).Output()
	if err != nil {
		t.Fatal(err)
	}
	page := string(out)
	// five charts of two runs, the loss raw and smoothed, and the perplexity of one
	if n := strings.Count(page, "<path "); n != 5*2+2+1 {
		t.Errorf("%d curves", n)
	}
	for _, want := range []string{"perplexity on fox", "gradient norm", ">4.6193<", ">1 MiB<", "fox 88.00"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
}
