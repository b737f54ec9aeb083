package eval

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// every is the time between two lines where there is no terminal. Shorter measurements write nothing.
const every = 5 * time.Second

// progress shows how much of a set has been measured.
type progress struct {
	out   io.Writer
	bar   *progressbar.ProgressBar // on a terminal
	name  string
	of    string // what is counted
	total int64
	spoke time.Time
}

func newProgress(out io.Writer, name string, total int64, of string) *progress {
	if out == nil {
		out = io.Discard
	}
	p := &progress{out: out, name: name, of: of, total: total, spoke: time.Now()}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(out),
			progressbar.OptionSetDescription("evaluating "+name),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	return p
}

func (p *progress) at(done int64) {
	if p.bar != nil {
		_ = p.bar.Set64(done) // a failure to draw the bar does not stop the measurement
	} else if time.Since(p.spoke) >= every {
		p.spoke = time.Now()
		fmt.Fprintf(p.out, "evaluating %s: %d of %d %s\n", p.name, done, p.total, p.of)
	}
}

func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
