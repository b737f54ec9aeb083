package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"headroom/configs"
	"headroom/data"
	"headroom/eval"
	"headroom/internal/graph"
	"headroom/model"
	"headroom/train"
)

// Failed is the error of a run that began and did not end well, in contrast to one that could not begin.
type Failed struct{ Err error }

func (f *Failed) Error() string { return f.Err.Error() }
func (f *Failed) Unwrap() error { return f.Err }

// A Run is one model to train and measure, in one directory.
type Run struct {
	Dir    string
	Config configs.Run
	Resume bool         // go on from the newest checkpoint, if there is one
	Log    *slog.Logger // nil for a progress bar on a terminal and the default log elsewhere
	Team   *Team        // the processes that train it together, nil for this one alone

	// Products is a file of algorithms that runs share, so that they have the same bits; see products.go. It may be
	// empty.
	Products string

	texts []Text // that its comparison reads
}

// A Result is what a finished run leaves in result.json.
type Result struct {
	Hash            string        `json:"config"` // of the configuration
	Attention       string        `json:"attention"`
	Seed            uint64        `json:"seed"`
	Parameters      int64         `json:"parameters"`
	CacheBytes      int64         `json:"cache_bytes_per_token_layer"` // in bf16
	Steps           int           `json:"steps"`
	Tokens          int64         `json:"tokens"`
	Loss            float64       `json:"loss,omitempty"` // of the last step
	TokensPerSecond float64       `json:"tokens_per_second"`
	Seconds         float64       `json:"seconds"`
	Checkpoint      string        `json:"checkpoint"`
	Interrupted     bool          `json:"interrupted,omitempty"`
	Sets            []eval.Result `json:"sets"`
	Tasks           []eval.Figure `json:"tasks,omitempty"`
	Texts           []Text        `json:"texts,omitempty"`
}

// String is the result for a terminal.
func (r *Result) String() string {
	var s strings.Builder
	state := "finished"
	if r.Interrupted {
		state = "interrupted"
	}
	fmt.Fprintf(&s,
		"%s: %s after %d steps, %d tokens, %.0f tokens/s; %d parameters, %d cache bytes per token and layer; %s\n",
		r.Attention, state, r.Steps, r.Tokens, r.TokensPerSecond, r.Parameters, r.CacheBytes, r.Checkpoint)
	s.WriteString(Measurements(r.Sets) + Figures(r.Tasks))
	return s.String()
}

// Measurements is a line for each set.
func Measurements(sets []eval.Result) string {
	var s strings.Builder
	for _, m := range sets {
		fmt.Fprintf(&s, "%s: perplexity %.4f, %.4f nats per token over %d tokens", m.Set, m.Perplexity, m.NLL, m.Tokens)
		if m.Masked {
			s.WriteString(" within their documents")
		}
		if m.BitsPerByte > 0 {
			fmt.Fprintf(&s, ", %.4f bits per byte", m.BitsPerByte)
		}
		if m.WordPerplexity > 0 {
			fmt.Fprintf(&s, ", word perplexity %.4g", m.WordPerplexity)
		}
		s.WriteString("\n")
	}
	return s.String()
}

// Names inside a run directory, besides those of package train.
const (
	configName = "config.yaml"
	resultName = "result.json"
)

// Do trains, measures and writes the result. When ctx ends first, the run is saved and the result says so. Of several
// ranks the first has the result; the others' is nil.
func (r Run) Do(ctx context.Context) (result *Result, err error) {
	if err := r.Config.Validate(); err != nil {
		return nil, err
	}
	var sum train.Summary
	var b *bench
	measure := func(ctx context.Context) error {
		result = b.result(r.Config, sum)
		return b.complete(ctx, r.Config, result)
	}
	together := r.Team != nil && sharding(r.Config.Train) == graph.ShardWeights // no rank alone has the weights
	err = r.Team.guard(r.Dir, func() error {
		opened, err := open(r.Config, r.Team, r.algorithms)
		if err != nil {
			return err
		}
		b = opened
		if sum, err = b.run(ctx, r); err == nil && together {
			err = measure(context.WithoutCancel(ctx))
		}
		return err
	})
	if err != nil {
		if r.Team == nil && b != nil { // after a lost rank something may still run on the device
			b.close()
		}
		return nil, err
	}
	left := true
	defer func() {
		if left { // the device of a group that does not end could keep its closing waiting
			b.close()
		}
	}()
	if r.Team != nil {
		if together { // its recording has calls of the group
			if err := b.ppl.Close(); err != nil {
				slog.Warn("closing the evaluation", "error", err)
			}
			b.ppl = nil
		}
		left = r.Team.leave()
		if r.Team.Rank() > 0 {
			return nil, nil
		}
	}
	if !together {
		if err := measure(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.found(b.backend); err != nil {
		slog.Warn("compare: the next run searches algorithms again", "reason", err)
	}
	if result.Interrupted {
		return result, nil
	}
	if err := writeFile(filepath.Join(r.Dir, resultName), result); err != nil {
		return nil, &Failed{err}
	}
	return result, nil
}

// complete measures what was trained to its end.
func (b *bench) complete(ctx context.Context, c configs.Run, result *Result) (err error) {
	if result.Interrupted {
		return nil
	}
	if result.Sets, err = b.final(ctx, c); err == nil {
		result.Tasks, err = b.tasks(ctx, c)
	}
	if err != nil && ctx.Err() != nil { // the weights are saved, and resuming measures them
		result.Interrupted, err = true, nil
	}
	if err != nil {
		err = &Failed{err}
	}
	return err
}

// run trains the model of a run that is open.
func (b *bench) run(ctx context.Context, r Run) (sum train.Summary, err error) {
	trainer, source, err := b.trainer(r)
	if err != nil {
		return sum, err
	}
	if r.Team.Rank() == 0 {
		if b.texts, err = r.claim(); err != nil {
			return sum, err
		}
	}
	sum, err = trainer.Train(ctx)
	if err != nil && source.used {
		err = &Failed{err}
	}
	return sum, err
}

// A bench is everything a run has open.
type bench struct {
	backend  graph.Backend
	model    *model.Transformer
	store    *graph.Store
	train    []*data.Tokens
	sets     map[string]*data.Tokens
	ppl      *eval.Perplexity
	measured []eval.Result // the last evaluation
	texts    []Text        // that the run reads

	documents *data.Documents // that attention stays within; nil where it reads all of a row

	questions map[string][]eval.Item // by task
	progress  io.Writer              // of long measurements; nil for nowhere
}

// open builds the model, opens its validation sets and compiles their measurement, with the algorithms that are known
// for the device.
func open(c configs.Run, t *Team, known func(graph.Backend) map[string]int) (b *bench, err error) {
	b = &bench{sets: map[string]*data.Tokens{}}
	defer func() {
		if err != nil && t == nil { // with others, closing could wait for a rank that does not know yet; the process ends
			b.close()
		}
	}()
	if b.questions, err = questions(c); err != nil {
		return b, err
	}
	if b.documents, err = documents(c); err != nil {
		return b, err
	}
	if b.backend, err = openDevice(c.Train.Device, c.Train.Precision, t.device()); err != nil {
		return b, err
	}
	if choices := known(b.backend); len(choices) > 0 {
		b.backend.Choose(choices)
	}
	if b.model, err = model.New(c.Model, c.Attention); err != nil {
		return b, err
	}
	for name, path := range Sets(c) {
		if b.sets[name], err = openTokens(path, c); err != nil {
			return b, err
		}
	}
	group, err := t.join(b.backend)
	if err != nil {
		return b, err
	}
	if t.Rank() == 0 {
		b.progress = os.Stderr
	}
	if b.store, err = graph.NewGroupStore(b.backend, b.model.Params(), group, sharding(c.Train)); err == nil &&
		len(b.sets) > 0 {
		if b.ppl, err = eval.NewPerplexity(b.store, b.model, c.Eval, b.documents); err == nil {
			b.ppl.Progress = b.progress
		}
	}
	return b, err
}

// sharding is what the ranks divide among them.
func sharding(c train.Config) graph.Sharding {
	if c.Shard == "weights" {
		return graph.ShardWeights
	}
	return graph.ShardOptimizer
}

// Sets are the validation sets of a run by name: those that training watches, those that only the end is measured on,
// and those that a learning rate is chosen on.
func Sets(c configs.Run) map[string]string {
	sets := maps.Clone(c.Data.Val)
	if sets == nil {
		sets = map[string]string{}
	}
	maps.Copy(sets, c.Eval.Sets)
	maps.Copy(sets, c.Eval.Select)
	return sets
}

// openTokens maps shards and holds them against the run's tokenizer.
func openTokens(path string, c configs.Run) (*data.Tokens, error) {
	t, err := data.Open(path, data.OpenOptions{Vocab: c.Model.Vocab, Headerless: c.Data.Headerless})
	if err != nil {
		return nil, err
	}
	if t.Meta != nil && c.Data.Tokenizer != "" && !data.SamePath(t.Meta.Tokenizer, c.Data.Tokenizer) {
		t.Close()
		return nil, fmt.Errorf("lab: %s was made with tokenizer %s, not data.tokenizer %s", path,
			t.Meta.Tokenizer, c.Data.Tokenizer)
	}
	if err := divided(path, t.Meta, c); err != nil {
		t.Close()
		return nil, err
	}
	if t.Meta != nil && strings.HasSuffix(c.Data.Tokenizer, ".json") {
		tokenizer, err := data.NewTokenizer(c.Data.Tokenizer) // need not be here to train
		if err == nil {
			err = tokenizer.Agrees(t.Meta)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			slog.Warn("texts will not begin and end as in training", "shards", path, "why", err)
		}
	}
	return t, nil
}

func (b *bench) close() {
	if b.ppl != nil {
		b.ppl.Close()
	}
	for _, t := range b.sets {
		if t != nil {
			t.Close()
		}
	}
	for _, t := range b.train {
		t.Close()
	}
	if b.store != nil {
		b.store.Close()
	}
	if b.backend != nil {
		b.backend.Close()
	}
}
