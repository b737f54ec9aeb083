package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"headroom/decode"
	"headroom/export"
	"headroom/internal/lab"
)

func verifyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "verify", Short: "check what was written against its source"}
	cmd.AddCommand(verifyExportCommand())
	return cmd
}

func verifyExportCommand() *cobra.Command {
	var python string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "export DIR CHECKPOINT",
		Short: "compare an export with its checkpoint",
		Long: `Verify export computes the logits of an export and of its checkpoint, in float32 with the weights
rounded to the export's type, for random tokens and for text, generates 64 greedy tokens with both, and exits
with 1 where they differ.

Where a Python with torch, transformers and safetensors is found, the export runs in that library: in one pass,
token by token through its cache, and in padded batches, with its tokenizer. Without it, headroom's own reader
reads the files back, and the report says so; with --python the library must be there. The command runs the code
in DIR: verify only what you exported yourself.`,
		Example: `  headroom export runs/first --out first-hf && headroom verify export first-hf runs/first
  headroom verify export first-hf runs/first --python venv/bin/python --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			checkpoint, c, err := lab.Checkpoint(args[1])
			if err != nil {
				return err
			}
			m, err := decode.Load(checkpoint)
			if err != nil {
				return err
			}
			m.Tokenizer = cmp.Or(c.Data.Tokenizer, m.Tokenizer)
			v, err := export.Verify(cmd.Context(), args[0], m, cmp.Or(python, "python3"), python != "")
			if err != nil {
				return &lab.Failed{Err: err}
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), v)
			} else {
				_, err = fmt.Fprint(cmd.OutOrStdout(), v)
			}
			if err == nil && len(v.Failed) > 0 {
				err = &lab.Failed{Err: fmt.Errorf("verify: %s: %s", args[0], strings.Join(v.Failed, "; "))}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&python, "python", "", "the Python to run; empty is python3 where it has the library")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the verdict as JSON")
	return cmd
}
