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

var compareHelp = `Compare trains every arm of FILE, or of a preset (` +
	strings.Join(configs.Comparisons(), ", ") + `), with every seed, and prints one table:
parameters, cache bytes, loss and perplexity on each validation set with a 95% interval over the seeds, the
difference to the baseline with a paired test, and tokens/s. docs/compare.md says what the table means. It is
also written as comparison.md and comparison.json beside the runs, and with charts as report.html.

Run it again after any interruption: finished runs are kept, others are resumed. An arm may change only the keys
that vary names (attention.* and model.mlp unless the file says otherwise). A failed arm does not stop the
others; the exit code is 1 then. Checksums of all texts are kept in plan.yaml and with every result. A run that
read another text or has other settings is refused before anything is written, and so is --text with another
file than at first.

A finished run needs no weights: config.yaml, texts.json, metrics.jsonl, env.json and result.json are enough for
every table and report. With --results DIR these files are copied to a disk that outlives the machine as each
run ends, and copied back when the same command runs elsewhere (docs/spot.md).

With a list lr, a parabola over the rates of each arm estimates where its optimum lies, and the table says where
that is beyond the rates that were tried. --extend-rates adds rates to such an arm until it is not. --null
trains the baseline again from other weights, in OUT/null, and counts how often the test finds a difference
between its runs.

A comparison is a file like this one; docs/config.md lists the keys:

  name: kinds
  base:                   # a run, or a file, or a preset's name
    preset: quickstart
    data: {train: shards/train, val: {books: shards/books}}   # data.val and eval.sets are reported
    eval: {select: {tune: shards/tune}}                       # what rates are chosen on, and nothing else
  baseline: gqa-4
  seeds: [1, 2, 3]
  lr: [1e-3, 3e-3]        # optional: learning rates; every arm is compared at its best on eval.select, or else data.val
  lr_seeds: 1             # the first seeds try them all, the others only the best; 0 is all
  match: parameters       # optional: MLP widths fitted to the baseline's parameters, or flops
  decode: [1x1024, 8x1024]  # optional: decode speed of BATCHxCONTEXT beside perplexity
  sizes: {small: {}, wide: {model: {width: 256, mlp: 688}}}   # optional: all arms at each size; three or more get a law
  arms:
    gqa-4: {attention: {kind: gqa, groups: 4}}
    gla-2: {attention: {kind: gla, groups: 2}}`

// comparison has the flags of compare.
type comparison struct {
	order                             lab.Order
	jobs                              lab.Jobs
	launch                            lab.Launch
	task, null                        int
	asJSON, collect, tethered, dryRun bool
}

func compareCommand() *cobra.Command {
	var o comparison
	cmd := &cobra.Command{
		Use:   "compare FILE|PRESET",
		Short: "train arms that differ in declared keys, over seeds, and tabulate their perplexities",
		Long:  compareHelp,
		Example: `  headroom compare kinds.yaml
  headroom compare kinds.yaml --out runs/kinds --set train.steps=500 --json
  headroom compare books-cpu --text train=books.train.jsonl --text select=books.val.jsonl --text books=books.test.jsonl
  headroom compare kinds.yaml --null 4                     # how often does the test find what is not there?
  headroom compare kinds.yaml --dry-run                    # what would be run, and for how long
  headroom compare kinds.yaml --extend-rates               # until no arm's best rate is the first or the last
  headroom compare kinds.yaml --results /mnt/kept/kinds    # on a machine that may go away
  headroom compare kinds.yaml --jobs 4                     # four runs at once, each with a share of the cores or a GPU
  headroom compare kinds.yaml --launch slurm --option=--partition=gpu --option=--time=04:00:00
  headroom compare --collect runs/kinds                    # table and report of what jobs have left so far`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if len(args) == 2 { // cobra passes the value of such a flag as an argument where it stands behind a space
				if !cmd.Flags().Changed("null") {
					return fmt.Errorf("compare: one FILE or preset at a time, not %s", strings.Join(args, " and "))
				}
				if o.null, err = strconv.Atoi(args[1]); err != nil {
					return fmt.Errorf("compare: --null takes a number of pairs, not %q", args[1])
				}
			}
			return o.do(cmd, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.order.Out, "out", "", "where the runs go (default runs/NAME)")
	f.StringArrayVar(&o.order.Sets, "set", nil, "override one key of the base, as in --set train.lr=3e-4")
	f.StringToStringVar(&o.order.Texts, "text", nil,
		"NAME=PATH of text to make shards of: train, or the name of a set to measure; may be given many times")
	f.StringSliceVar(&o.order.Decode, "decode", nil, "BATCHxCONTEXT: time decoding too, instead of what the file says")
	f.StringVar(&o.order.Keep, "results", "",
		"a directory that keeps the results of finished runs, without weights, and gives them back to an OUT that was lost")
	f.BoolVar(&o.order.Extend, "extend-rates", false, fmt.Sprintf("add learning rates to an arm while its best is the "+
		"first or the last, in the ratio of those of the file and at most %d on a side", eval.MostBeyond))
	f.IntVar(&o.null, "null", 0, "compare the baseline with itself instead, in so many pairs of groups of runs (4 "+
		"without a number), to see how often the test finds a difference that is not there")
	f.Lookup("null").NoOptDefVal = "4"
	f.BoolVar(&o.dryRun, "dry-run", false, "show the runs with their parameters, tokens, FLOPs and the time they will "+
		"take, from the beginning of one of each arm; train nothing")
	f.IntVar(&o.jobs.N, "jobs", 1,
		"runs at once, each in a process with its share of the cores or with a GPU; with --launch, at most")
	f.StringVar(&o.launch.On, "launch", "", "slurm or kubernetes: write array jobs into OUT instead of running here")
	f.StringArrayVar(&o.launch.Options, "option", nil,
		"with --launch slurm: an option of sbatch, as in --option=--partition=gpu; may be given many times")
	f.StringVar(&o.launch.Image, "image", "", "with --launch kubernetes: the container image")
	f.StringVar(&o.launch.Claim, "claim", "",
		"with --launch kubernetes: the volume claim that holds the working directory")
	f.BoolVar(&o.collect, "collect", false,
		"instead of FILE take the directory of runs: tabulate what is there, train nothing")
	f.IntVar(&o.task, "task", 0, "instead of FILE take the directory of runs: do one task, as array jobs do")
	f.BoolVar(&o.tethered, "tethered", false, "with --task: stop when standard input ends")
	f.BoolVar(&o.asJSON, "json", false, "print the comparison as JSON")
	if err := f.MarkHidden("tethered"); err != nil {
		panic(err)
	}
	cmd.MarkFlagsMutuallyExclusive("dry-run", "launch", "collect", "task")
	cmd.MarkFlagsMutuallyExclusive("extend-rates", "collect", "task", "null")
	cmd.MarkFlagsMutuallyExclusive("decode", "null")
	return cmd
}

func (o *comparison) do(cmd *cobra.Command, of string) error {
	switch {
	case o.task > 0:
		return doTask(cmd, of, o.task, o.tethered)
	case o.collect:
		c, err := lab.Planned(of)
		if err != nil {
			return err
		}
		if c.Of != "" {
			n, err := c.CollectNull()
			return reportNull(cmd, n, o.asJSON, err)
		}
		table, err := c.Collect()
		return report(cmd, c.Dir, table, o.asJSON, err)
	case cmd.Flags().Changed("null") && o.null < 1:
		return fmt.Errorf("compare: --null must be at least 1 pair, not %d", o.null)
	case o.jobs.N < 1:
		return fmt.Errorf("compare: jobs must be at least 1, not %d", o.jobs.N)
	}
	var err error
	if o.jobs.Child, err = child(); err != nil {
		return err
	}
	o.order.Name, o.order.Log, o.order.Dry = of, cmd.ErrOrStderr(), o.dryRun
	c, err := lab.Open(cmd.Context(), o.order)
	if err != nil {
		return err
	}
	if o.null > 0 {
		if c, err = c.Itself(o.null); err != nil {
			return err
		}
	}
	switch {
	case o.dryRun:
		return dryRun(cmd, c, o.asJSON)
	case o.launch.On != "":
		o.launch.Self = o.jobs.Child("", 0)[0]
		if cmd.Flags().Changed("jobs") {
			o.launch.N = o.jobs.N
		}
		submit, err := o.launch.Write(c)
		if err == nil {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), submit)
		}
		return err
	}
	if o.null > 0 {
		n, err := c.Null(cmd.Context(), o.jobs)
		return reportNull(cmd, n, o.asJSON, err)
	}
	table, err := c.Do(cmd.Context(), o.jobs)
	return report(cmd, c.Dir, table, o.asJSON, err)
}

// child is the command that does one task of a comparison in a process of its own.
func child() (func(dir string, task int) []string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	return func(dir string, task int) []string {
		return []string{self, "compare", dir, "--task", strconv.Itoa(task), "--tethered"}
	}, nil
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

// reportNull prints a comparison of the baseline with itself, even where runs failed.
func reportNull(cmd *cobra.Command, n *eval.Null, asJSON bool, failure error) (err error) {
	switch {
	case n == nil:
	case asJSON:
		err = writeJSON(cmd.OutOrStdout(), n)
	default:
		_, err = fmt.Fprint(cmd.OutOrStdout(), n.Text())
	}
	if failure != nil {
		return failure
	}
	return err
}

// report prints a comparison, even where runs failed, and writes its page beside the runs.
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
