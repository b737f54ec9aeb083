package lab

import (
	"context"
	"maps"
	"slices"

	"headroom/configs"
	"headroom/data"
	"headroom/eval"
	"headroom/train"
)

// watched is a source that knows whether training has begun.
type watched struct {
	data.Source
	used bool
}

func (w *watched) Next(batch *data.Batch) error {
	w.used = true
	return w.Source.Next(batch)
}

// trainer is the training of a run whose model and data are open.
func (b *bench) trainer(r Run) (train.Run, *watched, error) {
	config, err := r.Config.Train.Resolve(r.Config.Model.Context, r.Team.Ranks())
	if err != nil {
		return train.Run{}, nil, err
	}
	parts, err := data.ParseMixture(r.Config.Data.Train)
	if err != nil {
		return train.Run{}, nil, err
	}
	var weights []float64
	for _, p := range parts {
		tokens, err := openTokens(p.Path, r.Config)
		if err != nil {
			return train.Run{}, nil, err
		}
		b.train, weights = append(b.train, tokens), append(weights, p.Weight)
	}
	loader, err := data.NewMixture(b.train, weights, config.Context, r.Config.Data.Seed, r.Team.Rank(), r.Team.Ranks())
	if err != nil {
		return train.Run{}, nil, err
	}
	if err := b.announce(parts, config.Context, r); err != nil {
		return train.Run{}, nil, err
	}
	source := &watched{Source: loader}
	t := train.Run{
		Dir: r.Dir, Config: config, Model: b.model, Store: b.store, Data: source, Resume: r.Resume, Log: r.Log,
		Documents: b.documents,
		Settings: map[string]string{"data.tokenizer": r.Config.Absolute().Data.Tokenizer,
			"data.documents": r.Config.Data.Documents},
	}
	if len(b.sets) > 0 {
		t.Evaluate = b.evaluate
	}
	return t, source, nil
}

// evaluate measures every set with the weights as they stand.
func (b *bench) evaluate(ctx context.Context) (results []eval.Result, err error) {
	b.measured = nil // of earlier weights
	for _, name := range slices.Sorted(maps.Keys(b.sets)) {
		r, err := b.ppl.Measure(ctx, name, b.sets[name])
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	b.measured = results
	return results, nil
}

// final measures the trained model, unless training has just done so.
func (b *bench) final(ctx context.Context, c configs.Run) ([]eval.Result, error) {
	if c.Train.EvalEvery > 0 && b.measured != nil {
		return b.measured, nil
	}
	return b.evaluate(ctx)
}

// result is what is known of a run after training.
func (b *bench) result(c configs.Run, sum train.Summary) *Result {
	count := b.model.Count()
	return &Result{
		Hash: c.Absolute().Hash(), Attention: c.Attention.Name(), Seed: c.Train.Seed,
		Parameters: count.Parameters, CacheBytes: int64(2 * count.CacheElements),
		Steps: sum.Step, Tokens: sum.Tokens, Loss: sum.Loss, TokensPerSecond: sum.TokensPerSecond,
		Seconds:    sum.Elapsed.Seconds(),
		Checkpoint: sum.Checkpoint, Interrupted: sum.Interrupted, Texts: b.texts,
	}
}
