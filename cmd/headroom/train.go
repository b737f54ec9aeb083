package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"headroom/configs"
	"headroom/internal/lab"
)

func trainCommand() *cobra.Command {
	var flags runFlags
	var r lab.Run
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "train [FILE] --out DIR",
		Short: "train one model",
		Long: `Train takes a run from its configuration to a finished run directory: config.yaml and env.json, one line of
metrics.jsonl a step, checkpoints, and at the end result.json with the perplexity on every validation set.

The first SIGINT or SIGTERM finishes the step, saves and exits with 0; a second one leaves at once. --resume continues bit for
bit where the newest checkpoint stands.`,
		Example: `  headroom train run.yaml --out runs/first
  headroom train --preset quickstart --attention gla-2 --set data.train=shards/train --set data.val.books=shards/val --out runs/gla
  headroom train runs/first/config.yaml --out runs/first --resume`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := flags.input(args)
			if err != nil {
				return err
			}
			resolved, err := configs.Load(in)
			if err != nil {
				return err
			}
			r.Config = resolved.Run
			result, err := r.Do(cmd.Context())
			switch {
			case err != nil:
				return err
			case asJSON:
				return writeJSON(cmd.OutOrStdout(), result)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), result)
			return err
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&r.Dir, "out", "", "the run directory (needed)")
	cmd.Flags().BoolVar(&r.Resume, "resume", false, "go on from the newest checkpoint, if there is one")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err)
	}
	return cmd
}
