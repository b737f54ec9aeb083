package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"headroom/eval"
	"headroom/train"
)

// errInterrupted is the result of a run that was interrupted and has saved its checkpoint.
var errInterrupted = errors.New("lab: interrupted; it goes on from here")

// Do trains what is missing, resumes what was interrupted, measures and tabulates. Failures are named in the table; the
// error says how many there were. When ctx ends, the comparison is nil and another Do goes on.
func (c *Compare) Do(ctx context.Context, jobs Jobs) (*eval.Comparison, error) {
	if err := c.store(); err != nil {
		return nil, err
	}
	warnings, err := c.unmatched()
	if err != nil {
		return nil, err
	}
	for _, text := range warnings {
		if text != "" {
			slog.Warn("compare: " + strings.TrimPrefix(text, "WARNING: "))
		}
	}
	uneven, err := c.unheld()
	if err != nil {
		return nil, err
	}
	for _, text := range uneven {
		slog.Warn("compare: " + text)
	}
	if done, err := c.train(ctx, jobs); !done {
		return nil, err
	}
	table, err := c.Collect()
	if bad := c.exchange(); bad != nil {
		err = &Failed{errors.Join(err, bad)}
	}
	return table, err
}

// train does the tasks that are missing. It is false when ctx ended first, or when an error stops all runs.
func (c *Compare) train(ctx context.Context, jobs Jobs) (done bool, err error) {
	if err := c.exchange(); err != nil {
		return false, err
	}
	switch err := c.all(ctx, jobs); {
	case ctx.Err() != nil:
		slog.Info("compare: interrupted; the same command goes on from here", "dir", c.Dir)
		return false, nil
	case err != nil:
		return false, &Failed{err}
	}
	return true, nil
}

// all does the tasks of all stages. The first stage grows while learning rates are added.
func (c *Compare) all(ctx context.Context, jobs Jobs) error {
	first := 1
	for i := 0; i < len(c.Stages()); i++ {
		for done := 0; ; {
			total := 0
			for _, stage := range c.Stages() {
				total += len(stage)
			}
			stage := c.Stages()[i]
			if err := jobs.do(ctx, c, stage[done:], first+done, total); err != nil {
				return err
			}
			done = len(stage)
			if i > 0 || len(c.LR) == 0 || !c.extend() {
				first += done
				break
			}
			if err := c.save(); err != nil { // for the children
				return err
			}
		}
	}
	return nil
}

// do does the tasks of a part of a stage.
func (j Jobs) do(ctx context.Context, c *Compare, stage []Task, first, total int) error {
	switch {
	case j.Child == nil:
		return c.inTurn(ctx, stage, first, total)
	case stage[0].Decode: // speed is measured alone
		j.N = 1
	}
	return j.atOnce(ctx, c, stage, first, total)
}

// inTurn does the tasks of a stage one after the other in this process. A task that fails leaves its reason in its
// directory; an error is returned only where no other task can be done.
func (c *Compare) inTurn(ctx context.Context, stage []Task, first, total int) error {
	for i, task := range stage {
		slog.Info("compare", "run", first+i, "of", total, "what", c.what(task))
		if err := c.do(ctx, task); err != nil {
			if ctx.Err() != nil {
				return err
			}
			if full := c.full(err); full != nil {
				return full
			}
			slog.Error("compare: run failed", "what", c.what(task), "reason", err)
		}
	}
	return nil
}

// full is the error of a comparison whose disk has no space left, and nil where err has another reason.
func (c *Compare) full(err error) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return nil
	}
	return fmt.Errorf(
		"lab: there is no room left in %s: what is finished is kept; make room, and the same command goes on: %w", c.Dir, err)
}

// what names a task.
func (c *Compare) what(t Task) string {
	name := c.Arms[t.Arm].label()
	switch {
	case t.Decode:
		return name + ", decode speed"
	case t.LR > 0:
		return fmt.Sprintf("%s, learning rate %g, seed %d", name, t.LR, t.Seed)
	}
	return fmt.Sprintf("%s, seed %d", name, t.Seed)
}

// Do1 does one task of a stored comparison, counted from 1, as an array job or a child process does.
func (c *Compare) Do1(ctx context.Context, number int) error {
	if err := c.exchange(); err != nil {
		return err
	}
	i := number
	for _, stage := range c.Stages() {
		if i >= 1 && i <= len(stage) {
			if err := c.do(ctx, stage[i-1]); err != nil {
				return &Failed{err}
			}
			return nil
		}
		i -= len(stage)
	}
	return fmt.Errorf("lab: %s has no task %d", c.Dir, number)
}

// do brings one task to its result.
func (c *Compare) do(ctx context.Context, t Task) (err error) {
	arm := c.Arms[t.Arm]
	if t.Decode {
		return c.decode(ctx, arm)
	}
	if len(c.LR) > 0 && t.LR == 0 {
		if t.LR, err = c.choose(arm); err != nil {
			return err
		}
	}
	r := c.at(arm, t.Seed, t.LR)
	if result, err := r.finished(); result != nil || err != nil {
		return err
	}
	result, err := r.patient(ctx)
	switch {
	case err == nil && result.Interrupted, ctx.Err() != nil:
		return errInterrupted
	case err != nil && c.full(err) != nil:
		return err // the run itself did not fail
	case err != nil:
		return r.fail(err)
	}
	if err := os.Remove(filepath.Join(r.Dir, failureName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("lab: %w", err)
	}
	c.kept(c.exchangeRun(r))
	return nil
}

// kept logs that a result could not be copied to the directory of results, which is tried again at the end.
func (c *Compare) kept(err error) {
	if err != nil {
		slog.Error("compare: a result is not kept yet", "in", c.Results, "reason", err)
	}
}

// patient is Do that waits for another process to leave the directory: one that was told to stop may still be saving.
func (r Run) patient(ctx context.Context) (*Result, error) {
	for deadline := time.Now().Add(leaving); ; {
		result, err := r.Do(ctx)
		if !errors.Is(err, train.ErrBusy) || time.Now().After(deadline) || ctx.Err() != nil {
			return result, err
		}
		time.Sleep(time.Second)
	}
}

// leaving is how long a process may take to finish a step and save.
const leaving = time.Minute
