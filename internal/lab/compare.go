package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"headroom/configs"
	"headroom/eval"
)

// A Compare is a comparison that is ready to run: every arm is resolved and differs from the base in nothing but what it
// may.
type Compare struct {
	Name     string
	Dir      string // runs lie in Dir/ARM/seed-N
	Baseline string
	Seeds    []uint64
	Arms     []Arm
}

// An Arm is one variant of the base.
type Arm struct {
	Name   string
	Config configs.Run
}

// Do trains what is missing, resumes what was interrupted, and tabulates. Failures are named in the table; the error
// says how many there were. When ctx ends, the comparison is nil and another Do goes on.
func (c *Compare) Do(ctx context.Context) (*eval.Comparison, error) {
	table := &eval.Comparison{Name: c.Name, Baseline: c.Baseline, Sets: slices.Sorted(maps.Keys(Sets(c.Arms[0].Config)))}
	for _, arm := range c.Arms {
		table.Arms = append(table.Arms, eval.Arm{Name: arm.Name, Attention: arm.Config.Attention.Name()})
	}
	failed := 0
	for s, seed := range c.Seeds {
		for i, arm := range c.Arms {
			slog.Info("compare", "run", s*len(c.Arms)+i+1, "of", len(c.Seeds)*len(c.Arms), "arm", arm.Name, "seed", seed)
			result, err := c.run(ctx, arm, seed)
			switch {
			case err == nil && result.Interrupted:
				slog.Info("compare: interrupted; the same command goes on from here", "dir", c.Dir)
				return nil, nil
			case err != nil:
				failed++
				slog.Error("compare: run failed", "arm", arm.Name, "seed", seed, "reason", err)
				table.Arms[i].Failures = append(table.Arms[i].Failures, eval.Failure{Seed: seed, Reason: err.Error()})
			default:
				add(&table.Arms[i], seed, result)
			}
		}
	}
	if err := table.Score(); err != nil {
		return nil, err
	}
	if err := c.write(table); err != nil {
		return table, &Failed{err}
	}
	if failed > 0 {
		return table, &Failed{fmt.Errorf("lab: %d of %d runs failed", failed, len(c.Seeds)*len(c.Arms))}
	}
	return table, nil
}

// run brings one arm with one seed to its result.
func (c *Compare) run(ctx context.Context, arm Arm, seed uint64) (*Result, error) {
	r := Run{Dir: filepath.Join(c.Dir, arm.Name, fmt.Sprintf("seed-%d", seed)), Config: arm.Config, Resume: true}
	r.Config.Train.Seed, r.Config.Data.Seed = seed, seed
	if result, err := Finished(r.Dir, r.Config); result != nil || err != nil {
		return result, err
	}
	return r.Do(ctx)
}

func add(arm *eval.Arm, seed uint64, r *Result) {
	t := eval.Trial{Seed: seed, Perplexity: map[string]float64{}, TokensPerSecond: r.TokensPerSecond}
	for _, m := range r.Sets {
		t.Perplexity[m.Set] = m.Perplexity
	}
	arm.Parameters, arm.CacheBytes = r.Parameters, r.CacheBytes
	arm.Trials = append(arm.Trials, t)
}

// write keeps the table beside the runs.
func (c *Compare) write(table *eval.Comparison) error {
	if err := os.MkdirAll(c.Dir, 0o777); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := writeFile(filepath.Join(c.Dir, "comparison.json"), table); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "comparison.md"), []byte(table.Markdown()), 0o666); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// check refuses arms that differ from the base in more than they may, by name of arm and key.
func (c *Compare) check(base configs.Run, vary []string) error {
	var wrong []error
	for _, arm := range c.Arms {
		for _, change := range configs.Changes(base, arm.Config) {
			if !configs.Matches(change.Key, vary) {
				wrong = append(wrong, fmt.Errorf("arm %s changes %s from %s to %s, which vary (%s) does not allow",
					arm.Name, change.Key, change.From, change.To, strings.Join(vary, ", ")))
			}
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return fmt.Errorf("lab: compare: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}
