package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"headroom/configs"
	"headroom/data"
	"headroom/eval"
	"headroom/internal/graph"
	"headroom/train"
)

// A Cost is how long the parts of one run take, measured on this machine on random tokens.
type Cost struct {
	// opening the device, compiling, searching algorithms that no run before has found
	First float64 `json:"first_start_s"`
	Start float64 `json:"start_s"`           // the same when they are known
	Step  float64 `json:"step_s"`            // of training
	Pass  float64 `json:"evaluation_pass_s"` // over a batch of windows
	Save  float64 `json:"save_s"`            // of a checkpoint
}

// How long an arm is timed: steps after the first until both limits are reached, and passes of evaluation.
const (
	probeSteps = 4
	probeTime  = 1500 * time.Millisecond
	passTime   = 300 * time.Millisecond
)

// costs times an arm whose device knows some algorithms already, and adds those that it finds. Where there are any,
// runs after the first start sooner.
func costs(ctx context.Context, arm Arm, known map[string]int) (Cost, map[string]int, error) {
	c, found, err := probe(ctx, arm, known)
	c.First = c.Start
	all := maps.Clone(known)
	maps.Copy(all, found)
	if err != nil || len(all) == len(known) {
		return c, all, err
	}
	again, _, err := probe(ctx, arm, all)
	again.First = c.Start
	return again, all, err
}

// probe makes the beginning of an arm's run, as training makes it, in a directory that is removed afterwards.
func probe(ctx context.Context, arm Arm, known map[string]int) (c Cost, found map[string]int, err error) {
	dir, err := os.MkdirTemp("", "headroom-dry-run-")
	if err != nil {
		return c, nil, fmt.Errorf("lab: %w", err)
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	bare := arm.Config
	bare.Data.Val, bare.Eval.Sets, bare.Eval.Select, bare.Eval.Tasks = nil, nil, nil, nil // these need not exist yet
	b, err := open(bare, nil, func(graph.Backend) map[string]int { return known })
	if err != nil {
		return c, nil, err
	}
	defer b.close()
	config, err := arm.Config.Train.Resolve(arm.Config.Model.Context, 1)
	if err != nil {
		return c, nil, err
	}
	opened := time.Since(began)
	if len(Sets(arm.Config)) > 0 {
		compiled, pass, err := b.timePass(ctx, arm.Config)
		if err != nil {
			return c, nil, err
		}
		opened, c.Pass = opened+compiled, pass.Seconds()
	}
	enough, stop := context.WithCancel(ctx)
	defer stop()
	source := &random{vocab: arm.Config.Model.Vocab, steps: config.Accumulate, stop: stop, r: rand.New(rand.NewPCG(1, 2))}
	// the rate does not matter to the time, and with a small one nothing diverges
	config.EvalEvery, config.SaveEvery, config.From, config.LR, config.LogEvery = 0, 0, "", 1e-7, 1<<30
	began = time.Now()
	run := train.Run{Dir: dir, Config: config, Model: b.model, Store: b.store, Data: source, Documents: b.documents,
		Log: slog.New(slog.DiscardHandler)}
	if _, err := run.Train(enough); err != nil {
		return c, nil, err
	}
	trained := time.Since(began)
	if ctx.Err() != nil {
		return c, nil, ctx.Err()
	}
	lines, err := readLines(filepath.Join(dir, "metrics.jsonl"))
	if err != nil {
		return c, nil, err
	}
	if len(lines) == 0 {
		return c, nil, errors.New("lab: no step was timed")
	}
	first, last := lines[0], lines[len(lines)-1]
	c.Step = float64(config.TokensPerStep()) / first.TokensSec
	if len(lines) > 1 {
		c.Step = (last.Elapsed - first.Elapsed) / float64(len(lines)-1)
	}
	c.Start = opened.Seconds() + max(0, first.Elapsed-c.Step) // with the time by which the first step exceeds the others
	c.Save = max(0, trained.Seconds()-last.Elapsed)
	return c, b.backend.Choices(), nil
}

// timePass compiles the evaluation of a model that is open, and times it.
func (b *bench) timePass(ctx context.Context, c configs.Run) (compiled, pass time.Duration, err error) {
	began := time.Now()
	if b.ppl, err = eval.NewPerplexity(b.store, b.model, c.Eval, b.documents); err != nil {
		return 0, 0, err
	}
	compiled = time.Since(began)
	if err = b.store.Init(1); err == nil {
		pass, err = b.ppl.PassTime(ctx, c.Model.Vocab, passTime)
	}
	return compiled, pass, err
}

// readLines are the steps of a metrics.jsonl.
func readLines(path string) (lines []train.Line, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	defer f.Close()
	d := json.NewDecoder(bufio.NewReader(f))
	for {
		var l train.Line
		if err := d.Decode(&l); err == io.EOF {
			return lines, nil
		} else if err != nil {
			return nil, fmt.Errorf("lab: %s: %w", path, err)
		}
		lines = append(lines, l)
	}
}

// random is a source of random tokens that ends training when enough steps are timed.
type random struct {
	vocab, steps int // micro-batches of a step
	drawn        int
	since        time.Time // the first step had begun
	stop         context.CancelFunc
	r            *rand.Rand
}

func (s *random) Next(b *data.Batch) error {
	for i := range b.Inputs {
		b.Inputs[i], b.Targets[i] = s.r.Int32N(int32(s.vocab)), s.r.Int32N(int32(s.vocab))
	}
	switch s.drawn++; {
	case s.drawn == 2*s.steps: // drawn while the first step runs
		s.since = time.Now()
	case s.drawn > (1+probeSteps)*s.steps && time.Since(s.since) > probeTime:
		s.stop()
	}
	return nil
}

func (s *random) State() data.State          { return data.State{} }
func (s *random) Restore(_ data.State) error { return nil }
