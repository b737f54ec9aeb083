package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"headroom/export"
	"headroom/train"
)

func importCommand() *cobra.Command {
	var out string
	var context int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import DIR --out CHECKPOINT",
		Short: "make a checkpoint of a Hugging Face directory",
		Long: `Import reads a directory of the transformers library and writes a checkpoint that eval, bench,
generate and train --from take. It reads the Llama family (Llama with its llama3 rope scaling, and Mistral
with and without a window), OLMo 2, Gemma 3's text models, dense Qwen3 and DeepSeek-V3, and what headroom
export wrote. What the models here cannot express is refused by the name of its field in config.json: other
rope scaling, windows of other classes, mixtures of experts, biases, quantised weights.

Only safetensors are read, and only files inside the directory. The tokens that begin and end a text are those
that the directory's files name (docs/tokens.md).`,
		Example: `  headroom import downloads/llama-160m --out runs/llama
  headroom eval runs/llama --data books=shards/books
  headroom train --from runs/llama --set data.train=shards/train --set train.lr=1e-4 --out runs/tuned`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := export.Read(args[0], out, context)
			if err == nil {
				err = train.Seal(out)
			}
			switch {
			case err != nil:
				return err
			case asJSON:
				return writeJSON(cmd.OutOrStdout(), r)
			}
			if len(r.Unknown) > 0 {
				slog.Warn("config.json has keys that are not known here, and may change what the model computes", "keys",
					strings.Join(r.Unknown, " "))
			}
			if r.Tokenizer != "" {
				slog.Info("special tokens", "a_text_begins_with", cmp.Or(r.Begin, "nothing"), "and_ends_with",
					strings.Join(r.Ends, " "))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s with %s attention, %d parameters, context %d\n", r.Dir, r.Class,
				r.Attention, r.Parameters, r.Context)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "the checkpoint to write (needed)")
	f.IntVar(&context, "context", 0, "longest sequence, where the directory's own is more than is wanted")
	f.BoolVar(&asJSON, "json", false, "print what was read as JSON")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err)
	}
	return cmd
}
