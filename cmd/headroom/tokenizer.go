package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"headroom/data"
	"headroom/internal/lab"
)

func tokenizerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "tokenizer", Short: "train tokenizers"}
	cmd.AddCommand(tokenizerTrainCommand())
	return cmd
}

func tokenizerTrainCommand() *cobra.Command {
	var o data.TrainOptions
	cmd := &cobra.Command{
		Use:   "train --vocab N --out FILE.json INPUT…",
		Short: "train a byte-level BPE and write a tokenizer.json",
		Long: `Train merges the most frequent pairs of a text's pre-tokens until the vocabulary is full, and writes a
tokenizer.json as the Hugging Face tokenizers library does. Every command takes the file's path where it takes a
tokenizer's name.

INPUTs are those of prepare. All different pre-tokens are held in memory.`,
		Example: `  headroom tokenizer train --vocab 16384 --out books.json 'books/*.txt'
  headroom prepare --tokenizer books.json --out shards/books 'books/*.txt'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Inputs, o.Progress = args, cmd.ErrOrStderr()
			n, err := data.TrainTokenizer(cmd.Context(), o)
			if err != nil {
				if cmd.Context().Err() != nil {
					return &lab.Failed{Err: err}
				}
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d tokens\n", o.Out, n)
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Vocab, "vocab", 16384, "tokens, with the 256 bytes and end-of-text")
	f.StringVar(&o.Out, "out", "", "the file to write (needed)")
	f.StringVar(&o.Pattern, "pattern", "gpt2", "into pre-tokens: "+
		strings.Join(slices.Sorted(maps.Keys(data.Patterns)), ", "))
	f.Int64Var(&o.MinCount, "min-count", 2, "merge no pair that comes less often")
	f.StringVar(&o.TextField, "text-field", "",
		"where the text stands in a line of JSON, or a parquet file's column (text where this is not given)")
	f.BoolVar(&o.SkipBad, "skip-bad", false, "pass over lines that are no JSON or lack the field")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err)
	}
	return cmd
}
