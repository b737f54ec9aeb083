package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"headroom/data"
	"headroom/internal/lab"
)

func prepareCommand() *cobra.Command {
	var o data.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "prepare --tokenizer T --out DIR INPUT…",
		Short: "turn text into token shards",
		Long: `Prepare tokenizes text on all cores and writes shards in llm.c's .bin format beside a meta.json.
Validation sets are prepared from files of their own.

An INPUT is a file, a folder or a glob in quotes ('src/**/*.go' looks below src). Files that end in .jsonl,
.ndjson or .jsonlines hold one JSON object a line, files that end in .parquet or .pq a table. Where a name says
nothing (part-000.gz, web.json, x.zst), the first line decides. All other files are one document each.
Compression (gzip, zstd, bzip2) is known by content. The command logs what it read files as; docs/data.md has
the rules.

Each document begins with the end-of-text token, or with the token that the files beside a tokenizer.json name
(docs/tokens.md).

Where a run was stopped, killed or failed, the same command continues behind its last finished shard, and makes
the same bytes.`,
		Example: `  headroom prepare --tokenizer gpt2 --out shards/train 'books/*.txt'
  headroom prepare --tokenizer bytes --out shards/val held-out.txt
  headroom prepare --tokenizer cl100k --text-field content --skip-bad --out shards/web web-*.jsonl.zst`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Inputs, o.Progress = args, cmd.ErrOrStderr()
			meta, err := data.Prepare(cmd.Context(), o)
			if err != nil {
				if cmd.Context().Err() != nil {
					return &lab.Failed{Err: err}
				}
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), meta)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(),
				"%s: %d documents, %d bytes, %d %s tokens in %d shards, %d bad lines left out\n",
				o.Out, meta.Documents, meta.Bytes, meta.Tokens, meta.Tokenizer, len(meta.Shards), meta.Skipped)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Tokenizer, "tokenizer", "gpt2", strings.Join(data.TokenizerNames(), ", ")+
		", or the path of a tokenizer.json")
	f.StringVar(&o.Out, "out", "", "folder for the shards (needed)")
	f.StringVar(&o.TextField, "text-field", "",
		"where the text stands in a line of JSON, or a parquet file's column (text where this is not given)")
	f.BoolVar(&o.SkipBad, "skip-bad", false, "count lines that are no JSON or lack the field, and go on")
	f.BoolVar(&o.Dedup, "dedup", false, "leave out documents whose text has come before, byte for byte")
	f.Int64Var(&o.ShardTokens, "shard-tokens", 100_000_000, "tokens a shard")
	f.BoolVar(&asJSON, "json", false, "print the meta.json")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err)
	}
	return cmd
}
