package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"headroom/eval"
	"headroom/internal/lab"
)

func evalCommand() *cobra.Command {
	var over eval.Config
	var device string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "eval CHECKPOINT",
		Short: "measure the perplexity of a checkpoint on named sets",
		Long: `Eval measures negative log-likelihood per token, perplexity, bits per byte (comparable across tokenizers) and word perplexity on any
number of sets of shards. CHECKPOINT is a run directory (its newest checkpoint) or one of its checkpoints. Every token but a set's
first is a target exactly once; with --stride below the context each window sees more of what came before.`,
		Example: `  headroom eval runs/first
  headroom eval runs/first/checkpoints/best --data wiki=shards/wiki --data books=shards/books --stride 128 --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			checkpoint, c, err := lab.Checkpoint(args[0])
			if err != nil {
				return err
			}
			flags := cmd.Flags()
			if flags.Changed("data") {
				c.Eval.Sets, c.Data.Val = over.Sets, nil
			}
			for name, to := range map[string]*int{"batch": &c.Eval.Batch, "context": &c.Eval.Context, "stride": &c.Eval.Stride, "tokens": &c.Eval.Tokens} {
				if flags.Changed(name) {
					if *to, err = flags.GetInt(name); err != nil {
						return err
					}
				}
			}
			if device != "" {
				c.Train.Device = device
			}
			if len(lab.Sets(c)) == 0 {
				return errors.New("eval: no set to measure: name one with --data NAME=PATH")
			}
			results, err := lab.Measure(cmd.Context(), checkpoint, c)
			switch {
			case err != nil:
				return err
			case asJSON:
				return writeJSON(cmd.OutOrStdout(), map[string]any{"checkpoint": checkpoint, "sets": results})
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), lab.Measurements(results))
			return err
		},
	}
	f := cmd.Flags()
	f.StringToStringVar(&over.Sets, "data", nil, "NAME=PATH of shards, instead of the run's own sets; may be given many times")
	f.Int("batch", 0, "windows at once")
	f.Int("context", 0, "tokens a window; 0 is the model's own")
	f.Int("stride", 0, "tokens from window to window; 0 is the context: no overlap")
	f.Int("tokens", 0, "targets to measure of each set; 0 is all")
	f.StringVar(&device, "device", "", "cpu or cuda")
	f.BoolVar(&asJSON, "json", false, "print the results as JSON")
	return cmd
}
