package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"headroom/eval"
	"headroom/internal/lab"
)

// An evaluation is the report of one checkpoint.
type evaluation struct {
	Checkpoint string        `json:"checkpoint"`
	Sets       []eval.Result `json:"sets"`
	Tasks      []eval.Figure `json:"tasks,omitempty"`
	Cached     []eval.Cached `json:"cached,omitempty"`
	Decode     []eval.Decode `json:"decode,omitempty"`
}

func evalCommand() *cobra.Command {
	var over eval.Config
	var device string
	var decode, caches []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "eval CHECKPOINT",
		Short: "measure the perplexity of a checkpoint on named sets, and zero-shot tasks",
		Long: `Eval measures negative log-likelihood per token, perplexity, bits per byte (which compare across
tokenizers) and word perplexity on any number of sets of shards. CHECKPOINT is a run directory (its newest
checkpoint) or one of its checkpoints. Every token but a set's first is a target exactly once. With --stride
below the context each window sees more of the tokens before it.

With --tasks it answers zero-shot questions in the form of lm-evaluation-harness, from local JSONL files with
the fields of the data sets: arc_easy, hellaswag, openbookqa, piqa, sciq and winogrande by the likeliest choice
(acc by its summed log-likelihood, acc_norm by that per character), lambada by whether the last word is the
likeliest, and by its perplexity. Every figure has its standard error and the result of guessing.

With --decode it times the decode engine too: greedy steps of so many requests, each with so many tokens in its
cache. With --cache-type it also measures the sets through the decode engine's cache, which is kept so: every
token is predicted from what those before it left there, and the text goes on as it stands. Decoding is timed
with each such cache.`,
		Example: `  headroom eval runs/first
  headroom eval runs/first/checkpoints/best --data wiki=shards/wiki --data books=shards/books --stride 128 --json
  headroom eval runs/first --tasks hellaswag=hellaswag_val.jsonl,piqa=valid.jsonl --task-items 500
  headroom eval runs/first --decode 1x1024,8x1024
  headroom eval runs/first --cache-type fp32,bf16,fp8`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			checkpoint, c, err := lab.Checkpoint(args[0])
			if err != nil {
				return err
			}
			flags := cmd.Flags()
			if flags.Changed("data") {
				c.Eval.Sets, c.Eval.Select, c.Data.Val = over.Sets, nil, nil
			}
			if flags.Changed("tasks") {
				c.Eval.Tasks = over.Tasks
				if !flags.Changed("data") { // tasks alone
					c.Eval.Sets, c.Eval.Select, c.Data.Val = nil, nil, nil
				}
			}
			for name, to := range map[string]*int{"task-items": &c.Eval.TaskItems, "batch": &c.Eval.Batch,
				"context": &c.Eval.Context, "stride": &c.Eval.Stride, "tokens": &c.Eval.Tokens} {
				if flags.Changed(name) {
					if *to, err = flags.GetInt(name); err != nil {
						return err
					}
				}
			}
			if device != "" {
				c.Train.Device = device
			}
			cases, err := lab.DecodeCases(decode)
			if err != nil {
				return err
			}
			types, err := lab.CacheTypes(caches)
			if err != nil {
				return err
			}
			if len(types) > 0 && len(lab.Sets(c)) == 0 && len(cases) == 0 {
				return errors.New("eval: --cache-type measures sets and times decoding: name a set with --data NAME=PATH, or " +
					"--decode BATCHxCONTEXT")
			}
			if len(lab.Sets(c)) == 0 && len(c.Eval.Tasks) == 0 && len(cases) == 0 {
				return errors.New(
					"eval: nothing to measure: name a set with --data NAME=PATH, --tasks NAME=PATH, or --decode BATCHxCONTEXT")
			}
			report := evaluation{Checkpoint: checkpoint}
			if len(lab.Sets(c)) > 0 || len(c.Eval.Tasks) > 0 {
				if report.Sets, report.Tasks, err = lab.Measure(cmd.Context(), checkpoint, c); err != nil {
					return err
				}
			}
			if len(types) > 0 && len(lab.Sets(c)) > 0 {
				if report.Cached, err = lab.MeasureCached(cmd.Context(), checkpoint, c, types); err != nil {
					return err
				}
			}
			if len(cases) > 0 {
				if report.Decode, err = lab.DecodeSpeeds(cmd.Context(), c, cases, types); err != nil {
					return err
				}
			}
			if asJSON {
				report.Sets = append([]eval.Result{}, report.Sets...) // a list, even of none
				return writeJSON(cmd.OutOrStdout(), report)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), lab.Measurements(report.Sets),
				lab.CachedMeasurements(report.Cached), lab.Figures(report.Tasks), lab.Speeds(report.Decode))
			return err
		},
	}
	f := cmd.Flags()
	f.StringToStringVar(&over.Sets, "data", nil,
		"NAME=PATH of shards, instead of the run's own sets; may be given many times")
	f.StringToStringVar(&over.Tasks, "tasks", nil,
		"NAME=PATH of zero-shot tasks, and of the sets only those of --data; may be given many times")
	f.Int("task-items", 0, "items of each task's file to measure; 0 is all")
	f.Int("batch", 0, "windows at once")
	f.Int("context", 0, "tokens a window; 0 is the model's own")
	f.Int("stride", 0, "tokens from window to window; 0 is the context: no overlap")
	f.Int("tokens", 0, "targets to measure of each set; 0 is all")
	f.StringSliceVar(&decode, "decode", nil, "BATCHxCONTEXT: time decoding too; may name many")
	f.StringSliceVar(&caches, "cache-type", nil,
		"fp32, bf16 or fp8: measure the sets through a cache of the type too; may name many")
	f.StringVar(&device, "device", "", "cpu or cuda")
	f.BoolVar(&asJSON, "json", false, "print the results as JSON")
	return cmd
}
