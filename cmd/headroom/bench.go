package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"headroom/internal/lab"
	"headroom/train"
)

func benchCommand() *cobra.Command {
	bench := &cobra.Command{Use: "bench", Short: "measure speed", Args: cobra.NoArgs}
	bench.AddCommand(benchAttentionCommand(), benchTrainCommand(), benchDecodeCommand(), benchServeCommand())
	return bench
}

func benchTrainCommand() *cobra.Command {
	var device, precision string
	var steps int
	var asJSON bool
	var options train.BenchOptions
	cmd := &cobra.Command{
		Use:   "train",
		Short: "time training steps: forward, backward, clipping and AdamW",
		Long: `Bench train times optimizer steps on random tokens. It prints the median step, the arithmetic rate (6N
+ 6·L·C·T operations a token, the same for every kind) and its share of a large matrix product's rate in the
same run, the rate by the kind's own operations (three times its forward pass), the memory, and the time of the
kernels by kind. On a CPU it takes two small models with a byte vocabulary, on a GPU models of
about 180M and 800M parameters with a vocabulary of 128,256. --attention names other kinds, which it takes in
the smaller size alone. "unplanned" is the memory that the activations would take without sharing buffers.

With --window and --documents every case follows again, in windows and within documents of drawn lengths. The rate
leaves out the keys that a window hides, and counts those of other documents.`,
		Example: `  headroom bench train --device cpu --json
  headroom bench train --device cuda --precision bf16 --attention gqa-4,mlra-2,tpa,gqla-4
  headroom bench train --device cuda --precision bf16 --attention gqa-4 --batch 4 --context 8192 --window 512`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if steps < 1 {
				return fmt.Errorf("bench: steps must be at least 1, not %d", steps)
			}
			backend, err := lab.Backend(device, precision)
			if err != nil {
				return err
			}
			defer backend.Close()
			var results []train.BenchResult
			cases, err := train.BenchCases(device, options)
			if err != nil {
				return err
			}
			for _, c := range cases {
				r, err := train.Bench(cmd.Context(), backend, c, steps)
				if err != nil {
					return &lab.Failed{Err: err}
				}
				results = append(results, r)
				if asJSON {
					continue
				}
				if err := printBench(cmd.OutOrStdout(), r); err != nil {
					return err
				}
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"results": results})
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&device, "device", "cpu", "cpu or cuda")
	cmd.Flags().StringVar(&precision, "precision", "fp32", "fp32 or bf16")
	cmd.Flags().IntVar(&steps, "steps", 10, "timed steps of each case, after two to warm up")
	cmd.Flags().StringSliceVar(&options.Kinds, "attention", nil,
		"kinds, such as gqa-4,mlra-2,tpa; none is the project's own table")
	cmd.Flags().IntVar(&options.Batch, "batch", 0, "rows of a step; 0 is the table's")
	cmd.Flags().IntVar(&options.Context, "context", 0, "tokens of a row; 0 is the table's")
	cmd.Flags().IntVar(&options.Window, "window", 0, "time every case in windows of so many keys too")
	cmd.Flags().IntVar(&options.Documents, "documents", 0,
		"time every case within documents of so many tokens on average too")
	cmd.Flags().BoolVar(&asJSON, "json", false, `print {"results": [...]}`)
	return cmd
}

func printBench(w io.Writer, r train.BenchResult) error {
	masked := ""
	if r.Window > 0 {
		masked = fmt.Sprintf(" window %d", r.Window)
	}
	if r.Documents > 0 {
		masked = fmt.Sprintf(" documents %d", r.Documents)
	}
	_, err := fmt.Fprintf(w, "%-6s L %d C %d B %2d T %d%s: %6.0f tokens/s, %.1f ms a step, %.3g TFLOP/s (%.0f%% of a "+
		"product's %.3g), %.3g by its own operations, arena %d MiB (%d unplanned), memory %d MiB\n",
		r.Attention, r.Layers, r.Width, r.Batch, r.Context, masked, r.TokensPerSecond, r.StepMillis, r.TFLOPs,
		100*r.CeilingShare, r.CeilingTFLOPs, r.OwnTFLOPs,
		r.ArenaBytes>>20, r.UnplannedBytes>>20, r.MemoryBytes>>20)
	kinds := slices.SortedFunc(maps.Keys(r.KernelMillis),
		func(a, b string) int { return cmp.Compare(r.KernelMillis[b], r.KernelMillis[a]) })
	for _, kind := range kinds {
		_, bad := fmt.Fprintf(w, "       %-14s %9.3f ms\n", kind, r.KernelMillis[kind])
		err = errors.Join(err, bad)
	}
	return err
}
