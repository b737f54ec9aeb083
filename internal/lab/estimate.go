package lab

import (
	"context"
	"fmt"
	"time"

	"headroom/model"
	"headroom/train"
)

// An Estimate is what an arm's runs will take.
type Estimate struct {
	Arm             string  `json:"arm"`
	Attention       string  `json:"attention"`
	MLP             int     `json:"mlp"`
	RopeDim         int     `json:"rope_dim"`
	LatentDim       int     `json:"latent_dim,omitempty"`
	QueryLatentDim  int     `json:"query_latent_dim,omitempty"`
	Parameters      int64   `json:"parameters"`
	Unmatched       string  `json:"unmatched,omitempty"` // why match has not made it comparable to the baseline
	CacheBytes      int64   `json:"cache_bytes_per_token_layer"`
	Runs            int     `json:"runs"`
	Tokens          int64   `json:"tokens_per_run"`
	FLOPs           float64 `json:"flops_per_run"`
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"` // timed now, in a few steps on random tokens
	Seconds         float64 `json:"seconds,omitempty"`           // of all its runs one after the other, without evaluation and checkpoints
	Untimed         string  `json:"untimed,omitempty"`           // why it could not be timed here
}

// estimateSteps are the steps that an arm is timed by, after two to warm up.
const estimateSteps = 3

// Estimate sizes the comparison and times a few steps of every arm.
func (c *Compare) Estimate(ctx context.Context) (all []Estimate, err error) {
	if err := c.settle(); err != nil {
		return nil, err
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
	for i, arm := range c.Arms {
		e, err := estimate(ctx, arm)
		if err != nil {
			return nil, fmt.Errorf("arm %s: %w", arm.label(), err)
		}
		e.Unmatched = warnings[i]
		if e.Runs = runs[i]; e.Untimed == "" {
			e.Seconds = float64(e.Runs) * float64(e.Tokens) / e.TokensPerSecond
		}
		all = append(all, e)
	}
	return all, nil
}

func estimate(ctx context.Context, arm Arm) (e Estimate, err error) {
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
		Arm: arm.label(), Attention: a.Name(), RopeDim: a.RopeDim, LatentDim: a.LatentDim, QueryLatentDim: a.QueryLatentDim, MLP: arm.Config.Model.MLP, Parameters: count.Parameters,
		CacheBytes: int64(2 * count.CacheElements), Tokens: int64(config.Steps) * config.TokensPerStep(),
	}
	each, err := trainFLOPs(arm.Config)
	if err != nil {
		return e, err
	}
	e.FLOPs = each * float64(e.Tokens)
	if err := e.time(ctx, arm, config); ctx.Err() != nil {
		return e, &Failed{err}
	} else if err != nil {
		e.Untimed = err.Error()
	}
	return e, nil
}

func (e *Estimate) time(ctx context.Context, arm Arm, config train.Config) error {
	backend, err := Backend(config.Device, config.Precision)
	if err != nil {
		return err
	}
	defer backend.Close()
	c := train.BenchCase{Model: arm.Config.Model, Attention: arm.Config.Attention, Batch: config.Batch, Context: config.Context}
	took, err := train.StepTime(ctx, backend, c, estimateSteps)
	if err == nil {
		e.TokensPerSecond = float64(config.Batch*config.Context) / took.Seconds()
	}
	return err
}

// Duration is the time of all runs in turn.
func Duration(all []Estimate) time.Duration {
	seconds := 0.0
	for _, e := range all {
		seconds += e.Seconds
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second)
}
