package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"headroom/configs"
	"headroom/eval"
	"headroom/model"
	"headroom/train"
)

// Checkpoint finds the checkpoint that a path names, or the newest one of a run directory. The configuration is that of
// its run, or where the checkpoint has been moved away from it, that of the model alone. Weights that are not those
// that were written are refused.
func Checkpoint(path string) (checkpoint string, c configs.Run, err error) {
	run := path
	if _, err := os.Stat(filepath.Join(path, configName)); err == nil {
		if checkpoint, _, err = train.Latest(path); err != nil {
			return "", c, err
		}
		if checkpoint == "" {
			return "", c, fmt.Errorf("lab: %s has no checkpoint", path)
		}
	} else {
		checkpoint, err = filepath.EvalSymlinks(path) // latest and best are links
		if errors.Is(err, fs.ErrNotExist) {
			return "", c, fmt.Errorf("lab: nothing is called %s: it should be a run directory or one of its checkpoints",
				path)
		}
		if err != nil {
			return "", c, fmt.Errorf("lab: %w", err)
		}
		run = filepath.Dir(filepath.Dir(checkpoint))
	}
	if err := train.Check(checkpoint, model.WeightsFile); err != nil {
		return "", c, err
	}
	m, extra, err := model.Load(checkpoint)
	if err != nil {
		return "", c, err
	}
	if c, err = configs.Stored(filepath.Join(run, configName)); errors.Is(err, fs.ErrNotExist) {
		c, err = configs.Default(), nil
		c.Data.Tokenizer = extra["tokenizer"]
		if masked := extra["documents"]; masked != "" {
			c.Data.Documents = masked
		}
	}
	c.Model, c.Attention = m.Config, m.Attention
	return checkpoint, c, err
}

// Measure evaluates a checkpoint on named sets of shards and on zero-shot tasks. It measures as c.Eval says, on the
// run's own sets where it names none.
func Measure(ctx context.Context, checkpoint string, c configs.Run) (sets []eval.Result,
	tasks []eval.Figure, err error) {
	if err := c.Eval.Validate(); err != nil {
		return nil, nil, err
	}
	b, err := open(c, nil, nothingKnown)
	if err != nil {
		return nil, nil, err
	}
	defer b.close()
	for _, set := range b.sets {
		if _, err := set.Sum(); err != nil { // shards are held against their meta.json
			return nil, nil, err
		}
	}
	if err := b.model.LoadValues(checkpoint, b.store); err != nil {
		return nil, nil, err
	}
	if sets, err = b.evaluate(ctx); err == nil {
		tasks, err = b.tasks(ctx, c)
	}
	if err != nil && ctx.Err() != nil {
		err = &Failed{err}
	}
	return sets, tasks, err
}
