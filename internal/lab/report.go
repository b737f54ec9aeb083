package lab

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

	"headroom/configs"
	"headroom/eval"
	"headroom/train"
)

// Report writes the report of a comparison's directory from its table and the runs beside it. Where there is no table
// yet, it is made of the runs.
func Report(dir string) error {
	var failed *Failed // the table names what is missing
	if _, err := os.Stat(filepath.Join(dir, comparisonName)); errors.Is(err, fs.ErrNotExist) {
		if c, err := Planned(dir); err == nil {
			if _, err := c.Collect(); err != nil && !errors.As(err, &failed) {
				return err
			}
		}
	}
	table, err := eval.ReadComparison(dir)
	if err != nil {
		return err
	}
	var command []string
	if c, err := Planned(dir); err == nil {
		command = c.Command
	}
	g := gathering{command: command, dir: dir, report: eval.Report{Comparison: *table}, configs: map[string]configs.Run{}}
	g.gather()
	for _, note := range g.report.Notes {
		slog.Warn("report", "dir", dir, "note", note)
	}
	return g.report.Write(dir)
}

// A gathering collects what lies in the runs of a comparison.
type gathering struct {
	command []string // of the plan: the runs themselves may have been started as tasks of it
	dir     string
	report  eval.Report
	configs map[string]configs.Run // by arm
}

func (g *gathering) gather() {
	trials, absent := 0, 0
	for i := range g.report.Arms {
		arm := &g.report.Arms[i]
		for _, t := range arm.Trials {
			trials++
			run := filepath.Join(g.dir, runPath(arm.ID(), arm.LR, t.Seed))
			err := fs.ErrNotExist
			if filepath.IsLocal(arm.ID()) {
				_, err = os.Stat(run)
			}
			if err != nil {
				absent++
				g.note("%s, seed %d: no run directory", arm.ID(), t.Seed)
				continue
			}
			if err := g.run(run, arm, t.Seed); err != nil {
				g.note("%s, seed %d, is not in the curves: %w", arm.ID(), t.Seed, err)
			}
			if err := g.environment(run); err != nil {
				g.note("%s, seed %d: %w", arm.ID(), t.Seed, err)
			}
		}
	}
	if absent == trials {
		g.report.Notes = []string{
			"No run directory lies beside the comparison: there are no curves, configurations and machines."}
	}
	g.settings()
}

func (g *gathering) note(format string, args ...any) {
	g.report.Notes = append(g.report.Notes, strings.Join(strings.Fields(fmt.Errorf(format, args...).Error()), " "))
}

// run takes the configuration and the curve of one run.
func (g *gathering) run(dir string, arm *eval.Arm, seed uint64) error {
	c, err := configs.Stored(filepath.Join(dir, configName))
	if err != nil {
		return err
	}
	result, err := Finished(dir, c)
	if err != nil {
		return err
	}
	if result == nil {
		return fmt.Errorf("lab: %s has no result of its configuration", dir)
	}
	c.Attention = c.Attention.Resolve() // what the kind gives is a setting too
	if first, ok := g.configs[arm.ID()]; !ok {
		if arm.FLOPs, err = trainFLOPs(c); err != nil {
			return err
		}
		g.configs[arm.ID()] = c
	} else if changes := differing(first, c); len(changes) > 0 {
		return fmt.Errorf("lab: %s is %s in %s and %s in another seed", changes[0].Key, changes[0].To, dir, changes[0].From)
	}
	path := filepath.Join(dir, "metrics.jsonl")
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer f.Close()
	points, err := eval.ReadCurve(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(points) != result.Steps {
		return fmt.Errorf("lab: %s has %d of %d steps", path, len(points), result.Steps)
	}
	g.report.Curves = append(g.report.Curves, eval.Curve{Arm: arm.ID(), Seed: seed, Points: points})
	return nil
}

// differing are the keys in which two runs differ, but for their seeds.
func differing(a, b configs.Run) []configs.Change {
	return slices.DeleteFunc(configs.Changes(a, b), func(c configs.Change) bool {
		return c.Key == "train.seed" ||
			c.Key == "data.seed"
	})
}

// environment counts a run to those that were started in the same way.
func (g *gathering) environment(dir string) error {
	path := filepath.Join(dir, "env.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	var starts []train.Environment
	if err := json.Unmarshal(text, &starts); err != nil {
		return fmt.Errorf("lab: %s: %w", path, err)
	}
	if len(starts) == 0 {
		return errors.New("lab: " + path + " has no start")
	}
	s := starts[0]
	if len(g.command) > 0 {
		s.Command = g.command
	}
	e := eval.Environment{
		Runs: 1, Command: quote(s.Command), Revision: s.Revision,
		Hardware: fmt.Sprintf("%s, %s, %s, %d cores, backend %s", s.Go, s.OS, s.CPU, s.Cores, s.Backend),
	}
	if s.Products != "" {
		e.Hardware += ", products by " + s.Products
	}
	for i := range g.report.Environments {
		if was := &g.report.Environments[i]; was.Command == e.Command && was.Revision == e.Revision &&
			was.Hardware == e.Hardware {
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
		words[i] = quoteWord(a)
	}
	return strings.Join(words, " ")
}

func quoteWord(word string) string {
	if plain.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// settings tabulates the keys in which an arm differs from the baseline.
func (g *gathering) settings() {
	base, ok := g.configs[g.report.Arms[0].ID()]
	for i := range g.report.Arms {
		if arm := &g.report.Arms[i]; arm.Name == g.report.Baseline && !ok {
			base, ok = g.configs[arm.ID()]
		}
	}
	if !ok {
		return
	}
	at := map[string]int{}
	for i := range g.report.Arms {
		c, ok := g.configs[g.report.Arms[i].ID()]
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
	for i := range values {
		if values[i] = value; g.configs[g.report.Arms[i].ID()].Model.Layers == 0 {
			values[i] = "?"
		}
	}
	return values
}
