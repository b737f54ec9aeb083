package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"headroom/configs"
	"headroom/eval"
	"headroom/internal/lab"
	"headroom/model"
	"headroom/train"
)

func reportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "report DIR…",
		Short: "write report.html of comparisons from their directories",
		Long: `Report reads a comparison and the runs beside it and writes report.html there: tables, loss curves, perplexity against
cache, the differences in configuration, and how to repeat it, in one file that needs no network.
The charts are written as loss and tradeoff, .svg and .png, too. compare and quickstart end with it.

A run with holes in its metrics or of another version is left out of the curves, and the report says so.`,
		Example: `  headroom report runs/kinds`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, dir := range args {
				if err := writeReport(dir); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(dir, "report.html"))
			}
			return nil
		},
	}
}

// writeReport rebuilds the report of a comparison's directory.
func writeReport(dir string) error {
	c, err := eval.ReadComparison(dir)
	if err != nil {
		return err
	}
	g := gathering{dir: dir, report: eval.Report{Comparison: *c, FLOPs: map[string]float64{}}, configs: map[string]configs.Run{}}
	g.gather()
	for _, note := range g.report.Notes {
		slog.Warn("report", "dir", dir, "note", note)
	}
	return g.report.Write(dir)
}

// A gathering collects what lies in the runs of a comparison.
type gathering struct {
	dir     string
	report  eval.Report
	configs map[string]configs.Run // by arm
}

func (g *gathering) gather() {
	trials, absent := 0, 0
	for _, arm := range g.report.Arms {
		for _, t := range arm.Trials {
			trials++
			run := filepath.Join(g.dir, arm.Name, fmt.Sprintf("seed-%d", t.Seed))
			err := fs.ErrNotExist
			if filepath.IsLocal(arm.Name) {
				_, err = os.Stat(run)
			}
			if err != nil {
				absent++
				g.note("%s, seed %d: no run directory", arm.Name, t.Seed)
				continue
			}
			if err := g.run(run, arm.Name, t.Seed); err != nil {
				g.note("%s, seed %d, is not in the curves: %w", arm.Name, t.Seed, err)
			}
			if err := g.environment(run); err != nil {
				g.note("%s, seed %d: %w", arm.Name, t.Seed, err)
			}
		}
	}
	if absent == trials {
		g.report.Notes = []string{"No run directory lies beside the comparison: there are no curves, configurations and machines."}
	}
	g.settings()
}

func (g *gathering) note(format string, args ...any) {
	g.report.Notes = append(g.report.Notes, strings.Join(strings.Fields(fmt.Errorf(format, args...).Error()), " "))
}

// run takes the configuration and the curve of one run.
func (g *gathering) run(dir, arm string, seed uint64) error {
	c, err := configs.Stored(filepath.Join(dir, "config.yaml"))
	if err != nil {
		return err
	}
	result, err := lab.Finished(dir, c)
	if err != nil {
		return err
	}
	if result == nil {
		return fmt.Errorf("report: %s has no result of its configuration", dir)
	}
	if first, ok := g.configs[arm]; !ok {
		m, err := model.New(c.Model, c.Attention)
		if err != nil {
			return err
		}
		T := c.Train.Context
		if T == 0 {
			T = c.Model.Context
		}
		g.configs[arm], g.report.FLOPs[arm] = c, 3*m.ForwardFLOPs(T) // forward, and backward to inputs and weights
	} else if changes := differing(first, c); len(changes) > 0 {
		return fmt.Errorf("report: %s is %s in %s and %s in another seed", changes[0].Key, changes[0].To, dir, changes[0].From)
	}
	path := filepath.Join(dir, "metrics.jsonl")
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer f.Close()
	points, err := eval.ReadCurve(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(points) != result.Steps {
		return fmt.Errorf("report: %s has %d of %d steps", path, len(points), result.Steps)
	}
	g.report.Curves = append(g.report.Curves, eval.Curve{Arm: arm, Seed: seed, Points: points})
	return nil
}

// differing are the keys in which two runs differ, but for their seeds.
func differing(a, b configs.Run) []configs.Change {
	return slices.DeleteFunc(configs.Changes(a, b), func(c configs.Change) bool { return c.Key == "train.seed" || c.Key == "data.seed" })
}

// environment counts a run to those that were started in the same way.
func (g *gathering) environment(dir string) error {
	path := filepath.Join(dir, "env.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	var starts []train.Environment
	if err := json.Unmarshal(text, &starts); err != nil {
		return fmt.Errorf("report: %s: %w", path, err)
	}
	if len(starts) == 0 {
		return errors.New("report: " + path + " has no start")
	}
	s := starts[0]
	e := eval.Environment{
		Runs: 1, Command: quote(s.Command), Revision: s.Revision,
		Hardware: fmt.Sprintf("%s, %s, %s, %d cores, backend %s", s.Go, s.OS, s.CPU, s.Cores, s.Backend),
	}
	if s.Products != "" {
		e.Hardware += ", products by " + s.Products
	}
	for i := range g.report.Environments {
		if was := &g.report.Environments[i]; was.Command == e.Command && was.Revision == e.Revision && was.Hardware == e.Hardware {
			was.Runs++
			return nil
		}
	}
	g.report.Environments = append(g.report.Environments, e)
	return nil
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./:=,@%+-]+$`)

// quote writes a command as a shell reads it.
func quote(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		if words[i] = a; !plain.MatchString(a) {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// settings tabulates the keys in which an arm differs from the baseline.
func (g *gathering) settings() {
	base, ok := g.configs[g.report.Baseline]
	if !ok {
		return
	}
	at := map[string]int{}
	for i, arm := range g.report.Arms {
		c, ok := g.configs[arm.Name]
		if !ok {
			continue
		}
		for _, change := range differing(base, c) {
			row, ok := at[change.Key]
			if !ok {
				row = len(g.report.Settings)
				at[change.Key] = row
				g.report.Settings = append(g.report.Settings, eval.Setting{Key: change.Key, Values: g.repeated(change.From)})
			}
			g.report.Settings[row].Values[i] = change.To
		}
	}
}

// repeated is the baseline's value for every arm, or a question mark where the arm's configuration is not known.
func (g *gathering) repeated(value string) []string {
	values := make([]string, len(g.report.Arms))
	for i, arm := range g.report.Arms {
		if values[i] = value; g.configs[arm.Name].Model.Layers == 0 {
			values[i] = "?"
		}
	}
	return values
}
