package train

import (
	"math"
	"strings"
	"testing"
)

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestValidateNamesKeyValueAndRule(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Steps = 0 },
			"train: one of steps and tokens must be positive, the other 0, not steps 0 and tokens 0"},
		{func(c *Config) { c.Tokens = 5 },
			"train: one of steps and tokens must be positive, the other 0, not steps 1000 and tokens 5"},
		{func(c *Config) { c.Steps, c.Tokens = -1, 5 }, "train: steps must be at least 0, not -1"},
		{func(c *Config) { c.Batch = 0 }, "train: batch must be at least 1, not 0"},
		{func(c *Config) { c.Context = -4 }, "train: context must be at least 0, not -4"},
		{func(c *Config) { c.Accumulate = 0 }, "train: accumulate must be at least 1, not 0"},
		{func(c *Config) { c.LR = 0 }, "train: lr must be positive, not 0"},
		{func(c *Config) { c.LR = math.NaN() }, "train: lr must be positive, not NaN"},
		{func(c *Config) { c.LR = math.Inf(1) }, "train: lr must be positive, not +Inf"},
		{func(c *Config) { c.MinLR = 1.5 }, "train: min_lr must be a fraction from 0 to 1, not 1.5"},
		{func(c *Config) { c.Warmup = -2 }, "train: warmup must be at least 0, or -1 for a tenth of the steps, not -2"},
		{func(c *Config) { c.Schedule = "linear" }, "train: schedule must be cosine, wsd, constant, not linear"},
		{func(c *Config) { c.Decay = 0 }, "train: decay must be a fraction above 0, at most 1, not 0"},
		{func(c *Config) { c.Beta1 = 1 }, "train: beta1 must be from 0 to below 1, not 1"},
		{func(c *Config) { c.Beta2 = -0.5 }, "train: beta2 must be from 0 to below 1, not -0.5"},
		{func(c *Config) { c.Eps = 0 }, "train: eps must be positive, not 0"},
		{func(c *Config) { c.WeightDecay = -1 }, "train: weight_decay must be at least 0, not -1"},
		{func(c *Config) { c.Clip = -1 }, "train: clip must be at least 0, not -1"},
		{func(c *Config) { c.ZLoss = -1 }, "train: zloss must be at least 0, not -1"},
		{func(c *Config) { c.EvalEvery = -1 }, "train: eval_every must be at least 0, not -1"},
		{func(c *Config) { c.SaveEvery = -1 }, "train: save_every must be at least 0, not -1"},
		{func(c *Config) { c.Keep = 0 }, "train: keep must be at least 1, not 0"},
		{func(c *Config) { c.LogEvery = 0 }, "train: log_every must be at least 1, not 0"},
		{func(c *Config) { c.Precision = "fp16" }, "train: precision must be fp32, bf16, not fp16"},
		{func(c *Config) { c.Device = "tpu" }, "train: device must be cpu, cuda, not tpu"},
		{func(c *Config) { c.Precision = "bf16" }, "train: precision must be fp32 where device is cpu, not bf16"},
	} {
		conf := Default()
		c.change(&conf)
		if err := conf.Validate(); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

func TestResolve(t *testing.T) {
	c := Default()
	c.Steps, c.Tokens, c.Batch, c.Accumulate, c.Warmup = 0, 1001, 2, 5, 3
	got, err := c.Resolve(10, 1)
	if err != nil || got.Context != 10 || got.Steps != 11 || got.TokensPerStep() != 100 {
		t.Errorf("1001 tokens at 100 a step: %+v, %v", got, err)
	}
	c.Context = 11
	if _, err := c.Resolve(10, 1); err == nil ||
		!strings.Contains(err.Error(), "context must be at most the model's 10, not 11") {
		t.Errorf("a longer context than the model's: %v", err)
	}
	c.Context, c.Warmup = 10, 12
	if _, err := c.Resolve(10, 1); err == nil ||
		!strings.Contains(err.Error(), "warmup must be at most the 11 steps, not 12") {
		t.Errorf("more warm-up than steps: %v", err)
	}
}

// TestWarmupFollowsSteps where it is not given: a tenth, at most 100.
func TestWarmupFollowsSteps(t *testing.T) {
	for steps, want := range map[int]int{1: 0, 5: 0, 50: 5, 100: 10, 999: 99, 1000: 100, 5000: 100} {
		c := Default()
		c.Steps = steps
		if got, err := c.Resolve(10, 1); err != nil || got.Warmup != want {
			t.Errorf("%d steps warm up for %d, %v, not %d", steps, got.Warmup, err, want)
		}
	}
	c := Default()
	c.Steps, c.Tokens, c.Batch = 0, 4000, 2
	if got, err := c.Resolve(10, 1); err != nil || got.Steps != 200 || got.Warmup != 20 {
		t.Errorf("4000 tokens: %+v, %v", got, err)
	}
}

func TestRate(t *testing.T) {
	c := Default()
	c.Steps, c.Warmup, c.LR, c.MinLR, c.Decay = 110, 10, 2, 0.1, 0.5
	for _, r := range []struct {
		schedule string
		step     int
		want     float64
	}{
		{"cosine", 1, 0.2}, {"cosine", 10, 2}, {"cosine", 60, 1.1}, {"cosine", 110, 0.2},
		{"wsd", 5, 1}, {"wsd", 10, 2}, {"wsd", 55, 2}, {"wsd", 56, 2 - 1.8/55}, {"wsd", 110, 0.2},
		{"constant", 5, 1}, {"constant", 11, 2}, {"constant", 110, 2},
	} {
		c.Schedule = r.schedule
		if got := c.rate(r.step); math.Abs(got-r.want) > 1e-12 {
			t.Errorf("%s at step %d: %v, want %v", r.schedule, r.step, got, r.want)
		}
	}
	c.Warmup, c.Schedule = 0, "cosine"
	if got := c.rate(1); got > 2 || got < 1.99 {
		t.Errorf("without warm-up the first rate is %v, not nearly the peak", got)
	}
	c.Steps, c.Warmup = 10, 10
	if got := c.rate(10); got != 2 {
		t.Errorf("all warm-up ends at %v, not at the peak", got)
	}
}
