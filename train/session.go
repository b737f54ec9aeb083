package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"headroom/data"
	"headroom/eval"
	"headroom/internal/graph"
	"headroom/model"
)

// A session is the state of one start of a run.
type session struct {
	Run
	trainer    *graph.Trainer
	journal    *journal
	state      State
	loss       float64
	checkpoint string // the newest, with its path
	memory     int    // bytes taken on the device; a step allocates no more
	began      time.Time
	before     float64       // seconds of earlier starts
	micro      []*data.Batch // the micro-batches of a step
	batches    []graph.Batch // the same by input name
	staged     int           // the step that they are of
}

// open locks the run directory.
func (r Run) open() (*session, error) {
	if err := os.MkdirAll(filepath.Join(r.Dir, checkpoints), 0o777); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	s := &session{Run: r, began: time.Now()}
	if !s.first() {
		return s, nil
	}
	var err error
	s.journal, err = openJournal(r.Dir, r.Config, r.Log)
	return s, err
}

// first says that this process writes the run's files: it is alone, or rank 0.
func (s *session) first() bool { return s.Store.Group == nil || s.Store.Group.Rank() == 0 }

// start compiles the training step and brings weights, moments and data to where the newest checkpoint left them, or
// to the beginning.
func (s *session) start() (err error) {
	was, err := s.find()
	if err != nil {
		return err
	}
	if was != nil {
		s.Store.Backend.Choose(was.state.Choices)
	}
	B, T, accumulate := s.Config.Batch, s.Config.Context, s.Config.Accumulate
	s.trainer, err = graph.NewTrainer(s.Store, B, T, accumulate, func(b *graph.Builder) *graph.Node {
		b.Recompute, b.Documents = s.Config.Recompute, s.Documents != nil
		return s.Model.Loss(b, b.Tokens("tokens"), b.Tokens("targets"), s.Config.ZLoss)
	})
	if noRoom := (*graph.MemoryError)(nil); errors.As(err, &noRoom) {
		return fmt.Errorf("train: %w; train.recompute, a smaller train.batch with more train.accumulate, a smaller "+
			"train.context, or on several GPUs train.shard: weights, need less", err)
	}
	if err != nil {
		return err
	}
	for range accumulate {
		m := data.NewBatch(B, T)
		s.micro = append(s.micro, m)
		of := graph.Batch{"tokens": m.Inputs, "targets": m.Targets}
		if s.Documents != nil {
			of[graph.Documents] = make([]int32, B*T)
		}
		s.batches = append(s.batches, of)
	}
	if err := s.restore(was); err != nil {
		return err
	}
	if s.memory, err = s.Store.Backend.Used(); err != nil {
		return err
	}
	if err := s.journal.rewind(s.state.Step); err != nil {
		return err
	}
	if !s.first() {
		return nil
	}
	arena := s.trainer.Arena()
	s.journal.note("training", "run", s.Dir, "step", s.state.Step, "of", s.Config.Steps, "tokens_per_step",
		s.Config.TokensPerStep(),
		"arena_MiB", arena.Planned>>20, "unplanned_MiB", arena.Unplanned>>20)
	return appendEnvironment(s.Dir, environment(s.Store.Backend.Name(), s.state.Step))
}

// weights are those that training starts with: random ones, or a checkpoint's.
func (s *session) weights() error {
	if s.Config.From == "" {
		return s.Store.Init(s.Config.Seed)
	}
	if err := Check(s.Config.From, model.WeightsFile); err != nil {
		return err
	}
	was, _, err := model.Load(s.Config.From)
	if err != nil {
		return err
	}
	config := was.Config
	config.Init = s.Model.Config.Init // how the weights of the checkpoint were initialised does not matter
	if config != s.Model.Config || was.Attention.Resolve() != s.Model.Attention.Resolve() {
		return fmt.Errorf("train: from must be a checkpoint of this model: %s is %+v with %+v", s.Config.From, was.Config,
			was.Attention.Resolve())
	}
	return was.LoadValues(s.Config.From, s.Store)
}

// stage reads the micro-batches of the step after those that have begun and sends them to the device. After the last
// step there is none.
func (s *session) stage() error {
	s.staged++
	if s.staged > s.Config.Steps {
		return nil
	}
	for i, m := range s.micro {
		if err := s.Data.Next(m); err != nil {
			return fmt.Errorf("train: step %d: %w", s.staged, err)
		}
		if s.Documents != nil {
			s.Documents.Starts(m, s.batches[i][graph.Documents])
		}
	}
	return s.trainer.Stage(s.batches)
}

// advance counts a step that is done.
func (s *session) advance(stats graph.Stats, lr float64, took time.Duration) Line {
	tokens := s.Config.TokensPerStep()
	s.state.Step++
	s.state.Tokens += tokens
	s.state.Training += took.Seconds()
	s.state.Elapsed = s.before + time.Since(s.began).Seconds()
	s.loss = stats.Loss
	return Line{
		Step: s.state.Step, Loss: stats.Loss, LR: lr, GradNorm: stats.GradNorm, Tokens: s.state.Tokens,
		TokensSec: float64(tokens) / took.Seconds(), Memory: s.memory, Elapsed: s.state.Elapsed,
	}
}

// evaluate measures the model and says whether it was never better. An evaluation that the end of ctx cuts short does
// not count.
func (s *session) evaluate(ctx context.Context) (results []eval.Result, improved bool, err error) {
	if s.Store.Shard == graph.ShardWeights { // a rank that returned alone would let the others wait for its weights
		ctx = context.WithoutCancel(ctx)
	}
	results, err = s.Evaluate(ctx)
	if err != nil && ctx.Err() != nil {
		results, err = nil, nil
	}
	results = slices.Clone(results)
	for i := range results {
		results[i].Blocks = nil // the log does not need them
	}
	if err == nil {
		results, err = s.agreed(results)
	}
	if err != nil || len(results) == 0 {
		return nil, false, err
	}
	nll := 0.0
	for _, r := range results {
		nll += r.NLL / float64(len(results))
	}
	if s.state.Best == nil || nll < s.state.Best.NLL {
		s.state.Best = &Best{Step: s.state.Step, NLL: nll}
		return results, true, nil
	}
	return results, false, nil
}

// agreed is the loss that rank 0 measured. The last digits of another rank's may differ, and all must decide alike.
func (s *session) agreed(results []eval.Result) ([]eval.Result, error) {
	if s.Store.Group == nil {
		return results, nil
	}
	text, err := json.Marshal(results)
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	if text, err = s.Store.Share(text); err != nil {
		return nil, err
	}
	results = nil
	return results, json.Unmarshal(text, &results)
}

// save writes a checkpoint and removes those that are no longer to be kept.
func (s *session) save() (err error) {
	defer func() {
		if bad := (*model.NotFinite)(nil); errors.As(err, &bad) {
			err = &Diverged{Step: s.state.Step, Loss: s.loss, Weights: bad, Checkpoint: s.checkpoint}
		} else if err != nil {
			before := "no checkpoint was saved before"
			if s.checkpoint != "" {
				before = "the last good checkpoint is " + s.checkpoint
			}
			err = fmt.Errorf("train: checkpoint of step %d: %w; %s", s.state.Step, err, before)
		}
	}()
	if err := s.Store.Assemble(); err != nil || !s.first() {
		return err
	}
	s.state.Choices = s.Store.Backend.Choices()
	if err := s.journal.sync(); err != nil {
		return err
	}
	extra := map[string]string{"tokenizer": s.Settings["data.tokenizer"]}
	if s.Documents != nil {
		extra["documents"] = data.DocumentMask
	}
	if err := commit(s.Dir, s.state,
		func(dir string) error { return saveWeights(dir, s.Model, s.Store, extra) }); err != nil {
		return err
	}
	s.checkpoint = filepath.Join(s.Dir, checkpoints, stepName(s.state.Step))
	if err := noteSaved(s.Dir, s.state.Step); err != nil {
		return err
	}
	if b := s.state.Best; b != nil && b.Step == s.state.Step {
		if err := point(s.Dir, best, b.Step); err != nil {
			return err
		}
	}
	return prune(s.Dir, s.Config.Keep, s.state.Best)
}

func (s *session) summary() Summary {
	sum := Summary{
		Step: s.state.Step, Loss: s.loss, Tokens: s.state.Tokens,
		Elapsed: time.Duration(s.state.Elapsed * float64(time.Second)),
		Best:    s.state.Best, Checkpoint: s.checkpoint, Interrupted: s.state.Step < s.Config.Steps,
	}
	if s.state.Training > 0 {
		sum.TokensPerSecond = float64(sum.Tokens) / s.state.Training
	}
	return sum
}

// close frees the step and the lock, and adds what fails to err.
func (s *session) close(err *error) {
	if s.trainer != nil {
		*err = errors.Join(*err, s.trainer.Close())
	}
	*err = errors.Join(*err, s.journal.close())
}
