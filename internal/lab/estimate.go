package lab

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"headroom/configs"
	"headroom/data"
	"headroom/model"
)

// An Estimate is the time and size of an arm's runs. Times are predicted from the beginning of a run, made on this
// machine.
type Estimate struct {
	Arm             string  `json:"arm"`
	Attention       string  `json:"attention"`
	MLP             int     `json:"mlp"`
	RopeDim         int     `json:"rope_dim"`
	LatentDim       int     `json:"latent_dim,omitempty"`
	QueryLatentDim  int     `json:"query_latent_dim,omitempty"`
	Parameters      int64   `json:"parameters"`
	Unmatched       string  `json:"unmatched,omitempty"`         // why match has not made it comparable to the baseline
	CacheBytes      int64   `json:"cache_bytes_per_token_layer"` // in bf16
	CacheFP8        int64   `json:"cache_bytes_per_token_layer_fp8"`
	Runs            int     `json:"runs"`
	MoreRuns        int     `json:"runs_of_added_rates,omitempty"` // at most, beside these
	Tokens          int64   `json:"tokens_per_run"`
	FLOPs           float64 `json:"flops_per_run"`
	Documents       float64 `json:"documents_per_row,omitempty"` // that attention stays within
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`
	Cost            Cost    `json:"cost"`
	Training        float64 `json:"training_s,omitempty"`  // steps of one run
	Beside          float64 `json:"beside_s,omitempty"`    // start, evaluations and checkpoints of one run
	Seconds         float64 `json:"seconds,omitempty"`     // of all its runs one after the other
	Unknown         string  `json:"not_counted,omitempty"` // further work, whose time is not counted
	Untimed         string  `json:"untimed,omitempty"`     // why it could not be timed here
}

// Estimate sizes the comparison and times the beginning of a run of every arm.
func (c *Compare) Estimate(ctx context.Context) (all []Estimate, err error) {
	if err := c.settle(); err != nil {
		return nil, err
	}
	if len(c.LR) > 0 {
		c.extend()
	}
	runs := map[int]int{}
	for _, tasks := range c.Stages() {
		for _, t := range tasks {
			if !t.Decode {
				runs[t.Arm]++
			}
		}
	}
	warnings, err := c.unmatched()
	if err != nil {
		return nil, err
	}
	known := map[string]int{} // the algorithms that earlier runs have found
	for i, arm := range c.Arms {
		var e Estimate
		if i > 0 && len(configs.Changes(c.Arms[0].Config, arm.Config)) == 0 {
			// an arm with the configuration of the first takes as long
			e = all[0]
			e.Arm = arm.label()
		} else if e, err = estimate(ctx, arm, known); err != nil {
			return nil, fmt.Errorf("arm %s: %w", arm.label(), err)
		}
		e.Unmatched = warnings[i]
		e.Runs, e.MoreRuns = runs[i], c.extensions(arm)
		e.Seconds = float64(e.Runs)*(e.Training+e.Beside) + e.Cost.First - e.Cost.Start
		all = append(all, e)
	}
	return all, nil
}

func estimate(ctx context.Context, arm Arm, known map[string]int) (e Estimate, err error) {
	config, err := arm.Config.Train.Resolve(arm.Config.Model.Context, 1)
	if err != nil {
		return e, err
	}
	m, err := model.New(arm.Config.Model, arm.Config.Attention)
	if err != nil {
		return e, err
	}
	count, a := m.Count(), arm.Config.Attention.Resolve()
	e = Estimate{
		Arm: arm.label(), Attention: a.Name(), RopeDim: a.RopeDim, LatentDim: a.LatentDim, QueryLatentDim: a.QueryLatentDim,
		MLP: arm.Config.Model.MLP, Parameters: count.Parameters,
		CacheBytes: int64(2 * count.CacheElements), CacheFP8: int64(count.CacheFP8),
		Tokens: int64(config.Steps) * config.TokensPerStep(),
	}
	if e.Documents, err = estimateDocuments(arm.Config, config.Context); err != nil {
		return e, err
	}
	each, err := trainFLOPs(arm.Config)
	if err != nil {
		return e, err
	}
	e.FLOPs = each * float64(e.Tokens)
	cost, all, err := costs(ctx, arm, known)
	if ctx.Err() != nil {
		return e, &Failed{err}
	} else if err != nil {
		e.Untimed = err.Error()
		return e, nil
	}
	e.Cost = cost
	maps.Copy(known, all)
	e.TokensPerSecond = float64(config.TokensPerStep()) / e.Cost.Step
	e.Training = float64(config.Steps) * e.Cost.Step
	passes, unknown := evaluation(arm.Config)
	evaluations, saves := config.Pauses(len(Sets(arm.Config)) > 0)
	if evaluations == 0 {
		evaluations = 1 // at the end
	}
	e.Beside = e.Cost.Start + float64(evaluations)*float64(passes)*e.Cost.Pass + float64(saves)*e.Cost.Save
	if len(arm.Config.Eval.Tasks) > 0 {
		unknown = append(unknown, "zero-shot tasks")
	}
	e.Unknown = strings.Join(unknown, ", ")
	return e, nil
}

// evaluation is how many passes it takes to measure all sets once, and of which sets that is not known.
func evaluation(c configs.Run) (passes int64, unknown []string) {
	sets := Sets(c)
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		tokens := int64(c.Eval.Tokens) + 1
		t, err := data.Open(sets[name], data.OpenOptions{Headerless: c.Data.Headerless})
		if err == nil {
			tokens = t.Len()
			t.Close()
		} else if c.Eval.Tokens == 0 {
			unknown = append(unknown, fmt.Sprintf("evaluation on %s, whose shards are not there yet", name))
			continue
		}
		passes += c.Eval.Passes(tokens, c.Model.Context)
	}
	return passes, unknown
}

// Added are the runs that adding learning rates takes at most, and their time in turn.
func Added(all []Estimate) (runs int, _ time.Duration) {
	seconds := 0.0
	for _, e := range all {
		runs += e.MoreRuns
		seconds += float64(e.MoreRuns) * (e.Training + e.Beside)
	}
	return runs, Seconds(seconds)
}

// Duration is the time of all runs in turn.
func Duration(all []Estimate) time.Duration {
	seconds := 0.0
	for _, e := range all {
		seconds += e.Seconds
	}
	return Seconds(seconds)
}

// Seconds is a duration in as many digits as a terminal needs.
func Seconds(s float64) time.Duration {
	d := time.Duration(s * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second)
}
