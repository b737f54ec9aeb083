package data

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a command has read its input, in bytes of the files on disk.
type progress struct {
	command      string // the command's name, such as "prepare"
	mu           sync.Mutex
	out          io.Writer
	bar          *progressbar.ProgressBar // on a terminal
	total, read  int64
	tokens       int64
	before       int64 // bytes of text in shards that an earlier run finished
	began, spoke time.Time
}

// every is the time between two lines where there is no terminal.
var every = 5 * time.Second

func newProgress(command string, out io.Writer, files, skipped []string) *progress {
	if out == nil {
		out = io.Discard
	}
	p := &progress{command: command, out: out, began: time.Now(), spoke: time.Now()}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			p.total += info.Size()
		}
	}
	p.passed(skipped)
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions64(p.total, progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(command),
			progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish())
	}
	return p
}

// say writes a line under the command's name.
func (p *progress) say(format string, args ...any) {
	fmt.Fprintf(p.out, p.command+": "+format+"\n", args...)
}

// Write counts bytes read.
func (p *progress) Write(b []byte) (int, error) {
	p.advance(int64(len(b)))
	return len(b), nil
}

func (p *progress) advance(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read += bytes
	p.tell()
}

// tell draws the bar, which only done ends, or writes a line where the last one is older than every.
func (p *progress) tell() {
	if p.bar != nil {
		_ = p.bar.Set64(min(p.read, p.total-1)) // a failure to draw the bar does not stop the work
	} else if time.Since(p.spoke) >= every {
		p.spoke = time.Now()
		p.say("%.1f of %.1f MB read, %.1f M tokens, after %v",
			float64(p.read)/1e6, float64(p.total)/1e6, float64(p.tokens)/1e6, time.Since(p.began).Round(time.Second))
	}
}

// tick shows progress from time to time while nothing is read, since a long text without a space is one piece of work.
func (p *progress) tick(ctx context.Context) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			p.mu.Lock()
			p.tell()
			p.mu.Unlock()
		}
	}
}

// resumed tells what an earlier run finished.
func (p *progress) resumed(m Meta) {
	for _, s := range m.Shards {
		p.before += s.Bytes
		p.tokens += s.Tokens
	}
	p.say("going on behind %d finished shards, %.1f M tokens", len(m.Shards), float64(p.tokens)/1e6)
}

// wrote counts tokens written.
func (p *progress) wrote(tokens int64) {
	p.mu.Lock()
	p.tokens += tokens
	p.mu.Unlock()
}

// clear ends the bar.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}

// done ends the bar and says what was made.
func (p *progress) done(m Meta, err error) {
	p.clear()
	if err != nil {
		return
	}
	seconds := time.Since(p.began).Seconds()
	p.say("%d documents, %d tokens in %d shards, %.1f MB of text in %.1f s, %.1f MB/s",
		m.Documents, m.Tokens, len(m.Shards), float64(m.Bytes-p.before)/1e6, seconds, float64(m.Bytes-p.before)/1e6/seconds)
	if m.Duplicates > 0 {
		p.say("left out %d documents that had come before", m.Duplicates)
	}
	p.tally(tally{m.Skipped, m.Invalid})
}

// tally reports the lines and texts that were left out or changed.
func (p *progress) tally(t tally) {
	if t.skipped > 0 {
		p.say("left out %d bad lines", t.skipped)
	}
	if t.invalid > 0 {
		p.say("%d texts, or stretches of 1 MB of them, are no valid UTF-8: U+FFFD is read there, "+
			"but in files of text by the tokenizer bytes", t.invalid)
	}
}
