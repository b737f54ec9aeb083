package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"headroom/export"
	"headroom/internal/lab"
)

func exportCommand() *cobra.Command {
	o := export.Options{ShardBytes: 4 << 30}
	var format string
	var asJSON, noTokenizer bool
	cmd := &cobra.Command{
		Use:   "export CHECKPOINT --out DIR",
		Short: "write a checkpoint for other programs",
		Long: `Export writes a checkpoint, or the newest of a run directory, as a directory that the transformers
library loads: safetensors, config.json, generation_config.json, the tokenizer, and a model card with the run's
configuration, figures and command.

MHA, MQA and GQA become LlamaForCausalLM, or MistralForCausalLM with a window in every layer, or
Qwen3ForCausalLM with attention.qk_norm head, or Olmo2ForCausalLM with qk_norm all and model.norm post, or
Gemma3ForCausalLM with all that it has (docs/export.md). MLA without biases and with model.norm_eps 1e-6
becomes DeepseekV3ForCausalLM. All else, other kinds and other switches, comes with modeling_headroom.py, which
the library loads with trust_remote_code and whose cache has the kind's own layout.

--format gguf writes MHA, MQA and GQA as one file for llama.cpp and programs built on it, with the tokenizer
where headroom trained it. Weights are written in the precision that the run was trained in, unless --dtype says
otherwise.`,
		Example: `  headroom export runs/first --out first-hf
  headroom verify export first-hf runs/first
  headroom export runs/first --format gguf --out first.gguf`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			checkpoint, c, err := lab.Checkpoint(args[0])
			if err != nil {
				return err
			}
			o.DType = cmp.Or(o.DType, c.Train.Precision)
			switch {
			case noTokenizer && o.Tokenizer != "":
				return errors.New("export: give one of --tokenizer and --no-tokenizer")
			case !noTokenizer:
				o.Tokenizer = cmp.Or(o.Tokenizer, c.Data.Tokenizer)
			}
			write := map[string]func(string, export.Options) (export.Report, error){"hf": export.HF, "gguf": export.GGUF}[format]
			if write == nil {
				return fmt.Errorf("export: format must be hf or gguf, not %q", format)
			}
			if o.Card, err = lab.Card(args[0], checkpoint, c); err != nil {
				return err
			}
			r, err := write(checkpoint, o)
			switch {
			case err != nil:
				return err
			case asJSON:
				return writeJSON(cmd.OutOrStdout(), r)
			}
			if _, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %d tensors in %s\n", r.Dir,
				r.Class, r.Tensors, r.DType); err == nil && r.Reason != "" {
				slog.Info("it needs trust_remote_code", "because", r.Reason)
			}
			if r.Tokenizer == "" && !noTokenizer {
				slog.Warn("no tokenizer goes along: name one with --tokenizer")
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "out", "", "the directory, or for gguf the file, to write (needed)")
	f.StringVar(&format, "format", "hf", "hf or gguf")
	f.StringVar(&o.DType, "dtype", "",
		"fp32 or bf16; empty is the precision that the run was trained in, and fp32 for a checkpoint outside a run")
	f.StringVar(&o.Tokenizer, "tokenizer", "", "of a checkpoint that lies outside its run")
	f.BoolVar(&noTokenizer, "no-tokenizer", false, "leave the tokenizer out")
	f.Int64Var(&o.ShardBytes, "shard-bytes", o.ShardBytes, "most bytes of a file of weights (hf)")
	f.BoolVar(&asJSON, "json", false, "print what was written as JSON")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err)
	}
	return cmd
}
