package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"headroom/configs"
	"headroom/eval"
	"headroom/internal/lab"
)

func compareCommand() *cobra.Command {
	var order lab.Order
	var jobs lab.Jobs
	var task int
	var asJSON, collect, tethered bool
	cmd := &cobra.Command{
		Use:   "compare FILE|PRESET|DIR",
		Short: "train arms that differ in declared keys, over seeds, and tabulate their perplexities",
		Long: `Compare trains every arm of FILE, or of one of the presets ` + strings.Join(configs.Comparisons(), ", ") + `, with every seed and prints one table: parameters, cache bytes, perplexity on each
validation set as mean ± 95% interval over the seeds, the difference to the baseline with a paired test, and tokens/s.

Run it again after an interruption of any kind: finished runs are kept, others resumed. An arm may change only the keys that vary
names (attention.* and model.mlp unless the file says otherwise). A failed arm does not stop the others; the exit code is 1 then.
The table is also written as comparison.md and comparison.json beside the runs, and with charts as report.html.

  name: kinds
  base: {preset: quickstart, data: {train: shards/train, val: {books: shards/val}}}   # or a file, or a preset's name
  baseline: gqa-4
  seeds: [1, 2, 3]
  lr: [1e-3, 3e-3]        # optional: learning rates; every arm is compared at its best by the loss on data.val
  lr_seeds: 1             # the first seeds try them all, the others only the best; 0 is all
  match: parameters       # optional: MLP widths fitted to the baseline's parameters, or flops
  decode: [1x1024, 8x1024]  # optional: decode speed of BATCHxCONTEXT beside perplexity
  sizes: {small: {}, wide: {model: {width: 256, mlp: 688}}}   # optional: all of it at each size
  arms:
    gqa-4: {attention: {kind: gqa, groups: 4}}
    gla-2: {attention: {kind: gla, groups: 2}}`,
		Example: `  headroom compare kinds.yaml
  headroom compare kinds.yaml --out runs/kinds --set train.steps=500 --json
  headroom compare books-cpu --text train=books.train.jsonl.zst --text books=books.val.jsonl
  headroom compare kinds.yaml --jobs 4                     # four runs at once, each with its share of the cores, or a GPU`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if task > 0 {
				return doTask(cmd, args[0], task, tethered)
			}
			if collect {
				c, err := lab.Planned(args[0])
				if err != nil {
					return err
				}
				table, err := c.Collect()
				return report(cmd, c.Dir, table, asJSON, err)
			}
			order.Name, order.Log = args[0], cmd.ErrOrStderr()
			c, err := lab.Open(cmd.Context(), order)
			if err != nil {
				return err
			}
			if jobs.N < 1 {
				return fmt.Errorf("compare: jobs must be at least 1, not %d", jobs.N)
			}
			if jobs.N > 1 {
				self, err := os.Executable()
				if err != nil {
					return fmt.Errorf("compare: %w", err)
				}
				jobs.Child = func(dir string, task int) []string {
					return []string{self, "compare", dir, "--task", strconv.Itoa(task), "--tethered"}
				}
			}
			table, err := c.Do(cmd.Context(), jobs)
			return report(cmd, c.Dir, table, asJSON, err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&order.Out, "out", "", "where the runs go (default runs/NAME)")
	f.StringArrayVar(&order.Sets, "set", nil, "override one key of the base, as in --set train.lr=3e-4")
	f.StringToStringVar(&order.Texts, "text", nil, "NAME=PATH of text to make shards of: train, or the name of a set to measure; may be given many times")
	f.StringSliceVar(&order.Decode, "decode", nil, "BATCHxCONTEXT: time decoding too, instead of what the file says")
	f.IntVar(&jobs.N, "jobs", 1, "runs at once, each in a process with its share of the cores or with a GPU")
	f.BoolVar(&asJSON, "json", false, "print the comparison as JSON")
	f.BoolVar(&collect, "collect", false, "tabulate what jobs have left in DIR, train nothing")
	f.IntVar(&task, "task", 0, "do one task of the comparison in DIR, as array jobs do")
	f.BoolVar(&tethered, "tethered", false, "with --task: stop when standard input ends")
	return cmd
}

// doTask does one task of a comparison's directory.
func doTask(cmd *cobra.Command, dir string, task int, tethered bool) error {
	c, err := lab.Planned(dir)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	if tethered {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	return c.Do1(ctx, task)
}

// report prints a comparison, also one with failures, and writes its page beside it.
func report(cmd *cobra.Command, dir string, table *eval.Comparison, asJSON bool, failure error) (err error) {
	switch {
	case table == nil:
	case asJSON:
		err = writeJSON(cmd.OutOrStdout(), table)
	default:
		_, err = fmt.Fprint(cmd.OutOrStdout(), table.Text())
	}
	if table != nil {
		err = errors.Join(err, lab.Report(dir))
	}
	if failure != nil {
		return failure
	}
	return err
}
