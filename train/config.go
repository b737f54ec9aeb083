package train

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Config says how a model is trained. A step is one update of the weights, by the gradient of Batch·Accumulate rows.
type Config struct {
	// a checkpoint whose weights training starts with; empty starts with random ones
	From string `mapstructure:"from" yaml:"from"`
	// updates of the weights; 0 where tokens are given
	Steps int `mapstructure:"steps" yaml:"steps"`
	// targets to train on, rounded up to a whole step; 0 where steps are given
	Tokens int64 `mapstructure:"tokens" yaml:"tokens"`
	// rows on a device at once
	Batch int `mapstructure:"batch" yaml:"batch"`
	// tokens of a row; 0 is the model's own context
	Context int `mapstructure:"context" yaml:"context"`
	// micro-batches of a step, whose gradients are added up
	Accumulate int `mapstructure:"accumulate" yaml:"accumulate"`

	// learning rate at its peak
	LR float64 `mapstructure:"lr" yaml:"lr"`
	// learning rate at the end of the schedule, as a fraction of the peak
	MinLR float64 `mapstructure:"min_lr" yaml:"min_lr"`
	// steps in which the rate rises linearly to its peak; -1 is a tenth of all steps, at most 100
	Warmup int `mapstructure:"warmup" yaml:"warmup"`
	// how the rate falls: cosine, wsd (it stays, then falls linearly) or constant
	Schedule string `mapstructure:"schedule" yaml:"schedule"`
	// with wsd, the last part of the steps, in which the rate falls
	Decay float64 `mapstructure:"decay" yaml:"decay"`

	// AdamW's decay of the mean gradient
	Beta1 float64 `mapstructure:"beta1" yaml:"beta1"`
	// AdamW's decay of the mean squared gradient
	Beta2 float64 `mapstructure:"beta2" yaml:"beta2"`
	// AdamW's epsilon
	Eps float64 `mapstructure:"eps" yaml:"eps"`
	// AdamW's weight decay, on matrices and not on norms and biases
	WeightDecay float64 `mapstructure:"weight_decay" yaml:"weight_decay"`
	// largest norm of the whole gradient; 0 is no limit
	Clip float64 `mapstructure:"clip" yaml:"clip"`
	// weight of the mean squared log-sum-exp of the logits in the loss
	ZLoss float64 `mapstructure:"zloss" yaml:"zloss"`

	// steps between evaluations; 0 is none while training
	EvalEvery int `mapstructure:"eval_every" yaml:"eval_every"`
	// steps between checkpoints; 0 is one at the end
	SaveEvery int `mapstructure:"save_every" yaml:"save_every"`
	// newest checkpoints to keep, besides the best
	Keep int `mapstructure:"keep" yaml:"keep"`
	// steps between lines of the log
	LogEvery int `mapstructure:"log_every" yaml:"log_every"`
	// seed of the initial weights; data.seed is that of the order of the data
	Seed uint64 `mapstructure:"seed" yaml:"seed"`
	// fp32, or bf16 with fp32 master weights on a GPU
	Precision string `mapstructure:"precision" yaml:"precision"`
	// blocks are run again in the backward pass: less memory, a third more arithmetic
	Recompute bool `mapstructure:"recompute" yaml:"recompute"`
	// cpu or cuda
	Device string `mapstructure:"device" yaml:"device"`
	// what several GPUs divide among them: the optimizer's state (optimizer), or the weights too (weights)
	Shard string `mapstructure:"shard" yaml:"shard"`

	Ranks   int  `mapstructure:"-" yaml:"-"` // processes that train together, each on Batch rows at once; Resolve sets it
	follows bool `mapstructure:"-"`          // Resolve set Warmup from Steps
}

// Default is the paper's recipe at a size for one machine: AdamW (0.9, 0.95), decay 0.1, clip 1, cosine to 1% after a
// warm-up of a tenth of the steps, at most 100.
func Default() Config {
	return Config{
		Steps: 1000, Batch: 8, Accumulate: 1,
		LR: 1e-3, MinLR: 0.01, Warmup: -1, Schedule: "cosine", Decay: 0.2,
		Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Clip: 1,
		EvalEvery: 250, SaveEvery: 250, Keep: 2, LogEvery: 10, Seed: 1,
		Precision: "fp32", Device: "cpu", Shard: "optimizer",
	}
}

// Validate names the first key whose value breaks its rule.
func (c Config) Validate() error {
	if (c.Steps > 0) == (c.Tokens > 0) {
		return fmt.Errorf("train: one of steps and tokens must be positive, the other 0, not steps %d and tokens %d",
			c.Steps, c.Tokens)
	}
	for _, r := range []struct {
		key string
		ok  bool
		val any
		law string
	}{
		{"steps", c.Steps >= 0, c.Steps, "at least 0"},
		{"tokens", c.Tokens >= 0, c.Tokens, "at least 0"},
		{"batch", c.Batch >= 1, c.Batch, "at least 1"},
		{"context", c.Context >= 0, c.Context, "at least 0"},
		{"accumulate", c.Accumulate >= 1, c.Accumulate, "at least 1"},
		{"lr", c.LR > 0 && !math.IsInf(c.LR, 0), c.LR, "positive"},
		{"min_lr", c.MinLR >= 0 && c.MinLR <= 1, c.MinLR, "a fraction from 0 to 1"},
		{"warmup", c.Warmup >= -1, c.Warmup, "at least 0, or -1 for a tenth of the steps"},
		{"schedule", slices.Contains(schedules, c.Schedule), c.Schedule, strings.Join(schedules, ", ")},
		{"decay", c.Decay > 0 && c.Decay <= 1, c.Decay, "a fraction above 0, at most 1"},
		{"beta1", c.Beta1 >= 0 && c.Beta1 < 1, c.Beta1, "from 0 to below 1"},
		{"beta2", c.Beta2 >= 0 && c.Beta2 < 1, c.Beta2, "from 0 to below 1"},
		{"eps", c.Eps > 0, c.Eps, "positive"},
		{"weight_decay", c.WeightDecay >= 0, c.WeightDecay, "at least 0"},
		{"clip", c.Clip >= 0, c.Clip, "at least 0"},
		{"zloss", c.ZLoss >= 0, c.ZLoss, "at least 0"},
		{"eval_every", c.EvalEvery >= 0, c.EvalEvery, "at least 0"},
		{"save_every", c.SaveEvery >= 0, c.SaveEvery, "at least 0"},
		{"keep", c.Keep >= 1, c.Keep, "at least 1"},
		{"log_every", c.LogEvery >= 1, c.LogEvery, "at least 1"},
		{"precision", c.Precision == "fp32" || c.Precision == "bf16", c.Precision, "fp32, bf16"},
		{"shard", c.Shard == "optimizer" || c.Shard == "weights", c.Shard, "optimizer, weights"},
		{"device", c.Device == "cpu" || c.Device == "cuda", c.Device, "cpu, cuda"},
		{"precision", c.Device != "cpu" || c.Precision == "fp32", c.Precision, "fp32 where device is cpu"},
	} {
		if !r.ok {
			return fmt.Errorf("train: %s must be %s, not %v", r.key, r.law, r.val)
		}
	}
	return nil
}

// Resolve fills in what depends on the model and the number of processes: the context, the steps where tokens are
// given, and the warm-up that follows from them.
func (c Config) Resolve(context, ranks int) (Config, error) {
	if err := c.Validate(); err != nil {
		return c, err
	}
	c.Ranks = ranks
	if c.Context == 0 {
		c.Context = context
	}
	if c.Context > context {
		return c, fmt.Errorf("train: context must be at most the model's %d, not %d", context, c.Context)
	}
	if c.Steps == 0 {
		per := c.TokensPerStep()
		c.Steps, c.Tokens = int((c.Tokens+per-1)/per), 0
	}
	if c.follows = c.Warmup < 0; c.follows {
		c.Warmup = min(c.Steps/10, 100)
	}
	if c.Warmup > c.Steps {
		return c, fmt.Errorf("train: warmup must be at most the %d steps, not %d", c.Steps, c.Warmup)
	}
	return c, nil
}

// TokensPerStep is the number of targets behind one update of a resolved configuration.
func (c Config) TokensPerStep() int64 { return int64(c.rows()) * int64(c.Context) }

// rows are those of a step on all ranks.
func (c Config) rows() int { return c.Batch * c.Accumulate * max(c.Ranks, 1) }
