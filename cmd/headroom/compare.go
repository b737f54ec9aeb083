package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"headroom/eval"
	"headroom/internal/lab"
)

func compareCommand() *cobra.Command {
	var out string
	var sets []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "compare FILE",
		Short: "train arms that differ in declared keys, over seeds, and tabulate their perplexities",
		Long: `Compare trains every arm of FILE with every seed and prints one table: parameters, cache bytes, perplexity on each
validation set as mean ± 95% interval over the seeds, the difference to the baseline with a paired test, and tokens/s.

Run it again after an interruption: finished runs are kept, others resumed. An arm may change only the keys that vary
names (attention.* and model.mlp unless the file says otherwise). A failed arm does not stop the others; the exit code is 1 then.
The table is also written as comparison.md and comparison.json beside the runs, and with charts as report.html.

  name: kinds
  base: {preset: quickstart, data: {train: shards/train, val: {books: shards/val}}}   # or a file, or a preset's name
  baseline: gqa-4
  seeds: [1, 2, 3]
  arms:
    gqa-4: {attention: {kind: gqa, groups: 4}}
    gla-2: {attention: {kind: gla, groups: 2}, model: {mlp: 400}}`,
		Example: `  headroom compare kinds.yaml
  headroom compare kinds.yaml --out runs/kinds --set train.steps=500 --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := lab.Open(args[0], out, sets)
			if err != nil {
				return err
			}
			table, err := c.Do(cmd.Context())
			return report(cmd, c.Dir, table, asJSON, err)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "where the runs go (default runs/NAME)")
	cmd.Flags().StringArrayVar(&sets, "set", nil, "override one key of the base, as in --set train.lr=3e-4")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the comparison as JSON")
	return cmd
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
		err = errors.Join(err, writeReport(dir))
	}
	if failure != nil {
		return failure
	}
	return err
}
