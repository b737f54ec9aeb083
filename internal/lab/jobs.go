package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// Jobs says how the runs of a comparison share this machine. Each has a process of its own, so that one that takes all
// memory or crashes its GPU's driver does not take the others with it.
type Jobs struct {
	N int // runs at the same time
	// the command that does one task and stops when its standard input ends; nil: this process does all
	Child func(dir string, task int) []string
}

// atOnce does the tasks of a stage N at a time, as inTurn does one. The processor's threads are divided, GPUs are dealt
// out. The children stop with this process, however it ends: their standard input is a pipe from it.
func (j Jobs) atOnce(ctx context.Context, c *Compare, stage []Task, first, total int) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	queue := make(chan int)
	var workers sync.WaitGroup
	for slot := range min(j.N, len(stage)) {
		workers.Go(func() {
			for i := range queue {
				what := c.what(stage[i])
				slog.Info("compare: started", "run", first+i, "of", total, "what", what)
				err := j.child(ctx, c, first+i, slot)
				switch full := c.full(err); {
				case ctx.Err() != nil:
				case full != nil:
					stop(full)
				case err != nil:
					c.died(stage[i], err)
					slog.Error("compare: run failed", "what", what, "reason", err)
				default:
					slog.Info("compare: done", "run", first+i, "of", total, "what", what)
				}
			}
		})
	}
	for i := range stage {
		select {
		case queue <- i:
		case <-ctx.Done():
		}
	}
	close(queue)
	workers.Wait()
	return context.Cause(ctx)
}

// child does one task in a process of its own, whose log goes to DIR/logs.
func (j Jobs) child(ctx context.Context, c *Compare, number, slot int) error {
	logs := filepath.Join(c.Dir, "logs")
	if err := os.MkdirAll(logs, 0o777); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(logs, fmt.Sprintf("task-%d.txt", number)),
		os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer log.Close()
	args := j.Child(c.Dir, number)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), j.share(c, slot)...)
	var last tail
	cmd.Stderr = io.MultiWriter(&last, lenient{log})
	if j.N == 1 {
		cmd.Stderr = io.MultiWriter(&last, lenient{log}, lenient{os.Stderr})
	}
	leash, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer context.AfterFunc(ctx, func() { leash.Close() })() // the child saves and ends when its standard input does
	err = cmd.Wait()
	var exit *exec.ExitError
	switch line := last.line(); {
	case err == nil:
		return nil
	case strings.Contains(line, syscall.ENOSPC.Error()):
		return fmt.Errorf("%s: %w", line, syscall.ENOSPC)
	case strings.Contains(line, syscall.EDQUOT.Error()):
		return fmt.Errorf("%s: %w", line, syscall.EDQUOT)
	case errors.As(err, &exit) && exit.ExitCode() == 1 && line != "":
		return errors.New(line)
	default:
		return fmt.Errorf("lab: its process ended with %w; its log is %s", err, log.Name())
	}
}

// share is the environment of the child in a slot, which gives it its part of the cores or its GPU.
func (j Jobs) share(c *Compare, slot int) []string {
	if c.Arms[0].Config.Train.Device == "cuda" {
		if gpus := visible(); len(gpus) > 0 {
			return []string{"CUDA_VISIBLE_DEVICES=" + gpus[slot%len(gpus)]}
		}
		return nil
	}
	threads := max(1, runtime.GOMAXPROCS(0)/j.N)
	return []string{fmt.Sprintf("GOMAXPROCS=%d", threads), fmt.Sprintf("OPENBLAS_NUM_THREADS=%d", threads)}
}

// visible lists the GPUs that this process may use.
func visible() (gpus []string) {
	if list, set := os.LookupEnv("CUDA_VISIBLE_DEVICES"); set {
		return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
	}
	devices, err := filepath.Glob("/dev/nvidia[0-9]*")
	if err != nil {
		panic(err) // the pattern is malformed
	}
	for _, path := range devices {
		gpus = append(gpus, strings.TrimPrefix(path, "/dev/nvidia"))
	}
	return gpus
}

// died records why a run ended whose process could not record it itself.
func (c *Compare) died(t Task, reason error) {
	arm := c.Arms[t.Arm]
	if t.Decode {
		return
	}
	if len(c.LR) > 0 && t.LR == 0 {
		var err error
		if t.LR, err = c.choose(arm); err != nil {
			return // the table says that of the arm
		}
	}
	r := c.at(arm, t.Seed, t.LR)
	if result, failed, _ := r.left(); result == nil && failed == nil {
		_ = r.fail(reason) // without the reason the run still counts as not finished
	}
}

// lenient ignores errors of writing.
type lenient struct{ io.Writer }

func (l lenient) Write(p []byte) (int, error) {
	_, _ = l.Writer.Write(p) // a child must not fail because its log cannot be written
	return len(p), nil
}

// tail keeps the last line of what a process says.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if more := len(t.text) - 1<<12; more > 0 {
		t.text = append(t.text[:0], t.text[more:]...)
	}
	return len(p), nil
}

func (t *tail) line() string {
	lines := bytes.Split(bytes.TrimSpace(t.text), []byte("\n"))
	return strings.TrimPrefix(string(lines[len(lines)-1]), "headroom: ")
}
