// Package configs is the configuration of a run: one schema made of the parts that the packages own, read from presets,
// a YAML file, the environment and flags.
package configs

import (
	"errors"
	"fmt"

	"headroom/attention"
	"headroom/data"
	"headroom/eval"
	"headroom/model"
	"headroom/train"
)

// Run is everything that decides a run.
type Run struct {
	Model     model.Config     `mapstructure:"model"`
	Attention attention.Config `mapstructure:"attention"`
	Data      data.Config      `mapstructure:"data"`
	Train     train.Config     `mapstructure:"train"`
	Eval      eval.Config      `mapstructure:"eval"`
}

// Default is a run that names no data yet.
func Default() Run {
	return Run{Model: model.Default(), Attention: attention.Default(), Data: data.Default(), Train: train.Default(),
		Eval: eval.Default()}
}

// Validate says what keeps a run from starting.
func (r Run) Validate() error {
	if err := r.check(); err != nil {
		return err
	}
	if r.Data.Train == "" {
		return errors.New("configs: data.train must name the training shards: a folder, a glob or a file")
	}
	return nil
}

// check is Validate for a run that may not name its data yet.
func (r Run) check() error {
	checked := r.Data
	if checked.Train == "" {
		checked.Train = "not named yet"
	}
	for _, part := range []interface{ Validate() error }{r.Model, r.Attention, checked, r.Train, r.Eval} {
		if err := part.Validate(); err != nil {
			return fmt.Errorf("configs: %w", err)
		}
	}
	return nil
}
