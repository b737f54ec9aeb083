package train

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"headroom/eval"
)

// A Line is one step in metrics.jsonl.
type Line struct {
	Step      int           `json:"step"`
	Loss      float64       `json:"loss"`
	LR        float64       `json:"lr"`
	GradNorm  float64       `json:"grad_norm"` // before clipping
	Tokens    int64         `json:"tokens"`    // targets seen so far
	TokensSec float64       `json:"tokens_per_second"`
	Memory    int           `json:"memory_bytes"`   // of the device, or what tensors take on a CPU
	Elapsed   float64       `json:"elapsed_s"`      // over all starts
	Eval      []eval.Result `json:"eval,omitempty"` // where the step was evaluated
}

// A journal writes the steps of a run to metrics.jsonl and to TensorBoard's event files, and shows them as a progress
// bar on a terminal or as plain log lines elsewhere. Holding it open keeps every other process out of the run
// directory. A nil journal, that of all ranks but the first, writes nothing.
type journal struct {
	file  *os.File
	board *events                  // opened when the run begins or goes on
	bar   *progressbar.ProgressBar // nil where stderr is no terminal
	log   *slog.Logger
	every int
	steps int
}

// ErrBusy says that another process trains in the run directory.
var ErrBusy = errors.New("another process is training")

// openJournal opens metrics.jsonl and takes its lock. A nil log means a progress bar, or the default log where stderr
// is no terminal.
func openJournal(run string, c Config, log *slog.Logger) (*journal, error) {
	f, err := os.OpenFile(filepath.Join(run, "metrics.jsonl"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("train: %w in %s", ErrBusy, run), f.Close())
	}
	j := &journal{file: f, log: log, every: c.LogEvery, steps: c.Steps}
	if log == nil {
		j.log = slog.Default()
		if term.IsTerminal(int(os.Stderr.Fd())) {
			j.bar = progressbar.NewOptions(c.Steps, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionShowCount(),
				progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
				progressbar.OptionFullWidth())
		}
	}
	return j, nil
}

// rewind goes on after a step: lines of later steps, which a run wrote between its last checkpoint and its end, are
// cut off. Lines that should be there and are not are named.
func (j *journal) rewind(step int) error {
	if j == nil {
		return nil
	}
	end, lacks, err := endOf(j.file, step)
	if err == nil {
		err = j.file.Truncate(end)
	}
	if err == nil {
		_, err = j.file.Seek(end, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("train: metrics.jsonl: %w", err)
	}
	if lacks > 0 {
		slog.Warn("metrics.jsonl has been damaged or cut: the run goes on, but the lines of these steps are lost",
			"file", j.file.Name(), "first_lost", lacks, "run_at", step)
	}
	if j.board, err = openEvents(filepath.Dir(j.file.Name()), step, time.Now()); err != nil {
		return fmt.Errorf("train: event file: %w", err)
	}
	if j.bar != nil {
		_ = j.bar.Set(step)
	}
	return nil
}

// endOf is where the line of a step ends, or the last one before it, and the first step up to there that has no line, 0
// where all have one. Unreadable text between lines is left as it is.
func endOf(r io.Reader, step int) (end int64, lacks int, err error) {
	next, at := 1, int64(0)
	for lines := bufio.NewReader(r); ; {
		text, err := lines.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return 0, 0, err
		}
		at += int64(len(text))
		var l Line
		whole := err == nil && json.Unmarshal(text, &l) == nil // a last line without a line end was cut short
		if whole && l.Step <= step {
			if l.Step != next && lacks == 0 {
				lacks = next
			}
			end, next = at, l.Step+1
		}
		if err == io.EOF || whole && l.Step > step {
			break
		}
	}
	if next <= step && lacks == 0 {
		lacks = next
	}
	return end, lacks, nil
}

func (j *journal) write(l Line) error {
	if j == nil {
		return nil
	}
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("train: metrics.jsonl: %w", err)
	}
	if _, err := j.file.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("train: metrics.jsonl: %w", err)
	}
	if err := j.board.write(l.Step, l.scalars(), time.Now()); err != nil {
		return fmt.Errorf("train: event file: %w", err)
	}
	j.show(l)
	return nil
}

func (j *journal) show(l Line) {
	if j.bar != nil {
		j.bar.Describe(fmt.Sprintf("loss %.4f  %.0f tokens/s", l.Loss, l.TokensSec))
		_ = j.bar.Set(l.Step)
	} else if l.Step%j.every == 0 || l.Step == j.steps {
		j.log.Info("step", "step", l.Step, "of", j.steps, "loss", round(l.Loss), "lr", fmt.Sprintf("%.3g", l.LR), "grad_norm",
			round(l.GradNorm), "tokens/s", int(l.TokensSec))
	}
	for _, r := range l.Eval {
		j.note("evaluation", "step", l.Step, "set", r.Set, "perplexity", round(r.Perplexity))
	}
}

// note logs a line beside the bar.
func (j *journal) note(msg string, args ...any) {
	if j == nil {
		return
	}
	if j.bar != nil {
		_ = j.bar.Clear()
	}
	j.log.Info(msg, args...)
}

// sync brings the lines so far to the disk, before a checkpoint that counts on them.
func (j *journal) sync() error { return j.file.Sync() }

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	if j.bar != nil {
		_ = j.bar.Exit()
		fmt.Fprintln(os.Stderr)
	}
	var err error
	if j.board != nil {
		err = j.board.close()
	}
	return errors.Join(err, j.file.Close())
}

func round(x float64) string { return fmt.Sprintf("%.4f", x) }
