package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"headroom/configs"
	"headroom/internal/device"
	"headroom/internal/lab"
	"headroom/internal/ranks"
)

func trainCommand() *cobra.Command {
	var flags runFlags
	var r lab.Run
	var at ranks.Flags
	var from string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "train [FILE] --out DIR",
		Short: "train one model",
		Long: `Train trains a run from its configuration to a finished run directory: config.yaml and env.json, one
line of metrics.jsonl a step, checkpoints, and at the end result.json with the perplexity on every validation
set. docs/config.md lists the keys of a configuration.

On several GPUs train.batch is the rows of each. --gpus N starts N processes on this machine; the variables of
torchrun, Slurm, Open MPI, PMI, Kubeflow (PET_) and JAX, and plain RANK and WORLD_SIZE, are understood
(docs/ranks.md). The optimizer's state is divided among the ranks; with train.shard=weights the weights and
gradients are too, for models that one GPU cannot hold.

The first SIGINT or SIGTERM finishes the step, saves and exits with 0, the second ends at once. --resume
continues bit for bit from the newest checkpoint. Checkpoints have checksums: where the newest is damaged,
--resume goes on from the one before, says so and sets the damaged one aside. Where no checkpoint is whole, it
is an error, and nothing is overwritten.

Without train.warmup the rate rises over a tenth of the steps, at most 100. Paths in config.yaml are absolute.`,
		Example: `  headroom train run.yaml --out runs/first
  headroom train --preset quickstart --attention gla-2 --set data.train=shards/train --out runs/gla
  headroom train runs/first/config.yaml --out runs/first --resume
  headroom train run.yaml --out runs/two --set train.device=cuda --gpus 2`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := flags.input(args)
			if err != nil {
				return err
			}
			if f := cmd.Flags(); at.WorldSize == 0 && (f.Changed("rank") || f.Changed("local-rank")) {
				return errors.New("train: --rank and --local-rank count among --world-size processes, which is not given")
			}
			if from != "" {
				was, err := lab.From(from)
				if err != nil {
					return err
				}
				in.Sets = append(was, in.Sets...)
			}
			resolved, err := configs.Load(in)
			if err != nil {
				return err
			}
			r.Config = resolved.Run
			place, err := ranks.Detect(at, os.Getenv, device.Count)
			if err != nil {
				return err
			}
			if place.Spawn > 0 {
				return ranks.Spawn(cmd.Context(), place, os.Args[1:], os.Stdout, os.Stderr)
			}
			if !place.Alone() {
				if r.Team, err = lab.Meet(cmd.Context(), place, r.Config); err != nil {
					return err
				}
			}
			result, err := r.Do(cmd.Context())
			switch {
			case err != nil:
				return err
			case result == nil: // rank 0 has it
				return nil
			case asJSON:
				return writeJSON(cmd.OutOrStdout(), result)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), result)
			return err
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&r.Dir, "out", "", "the run directory (needed)")
	cmd.Flags().StringVar(&from, "from", "",
		"a run or checkpoint to train on from, short for train.from and its model, attention and tokenizer")
	cmd.Flags().BoolVar(&r.Resume, "resume", false,
		"go on from the newest whole checkpoint, or begin where the run has saved none")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	cmd.Flags().StringVar(&r.Products, "products", "",
		"a file of algorithms that runs share, so that the same run twice has the same bits on a GPU; made where missing")
	cmd.Flags().IntVar(&at.GPUs, "gpus", 0, "processes to start on this machine, one a GPU")
	cmd.Flags().IntVar(&at.Rank, "rank", 0, "this process among --world-size")
	cmd.Flags().IntVar(&at.WorldSize, "world-size", 0, "processes in all; 0 asks the launcher's variables")
	cmd.Flags().IntVar(&at.LocalRank, "local-rank", 0, "the GPU of this process")
	cmd.Flags().StringVar(&at.Master, "master", "", "host:port where rank 0 listens")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err)
	}
	return cmd
}
