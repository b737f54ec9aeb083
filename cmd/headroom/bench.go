package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"headroom/internal/lab"
	"headroom/train"
)

func benchCommand() *cobra.Command {
	bench := &cobra.Command{Use: "bench", Short: "measure speed", Args: cobra.NoArgs}
	bench.AddCommand(benchTrainCommand())
	return bench
}

func benchTrainCommand() *cobra.Command {
	var device, precision string
	var steps int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "train",
		Short: "time training steps: forward, backward, clipping and AdamW",
		Long: `Bench train times optimizer steps on random tokens of a byte vocabulary, for two sizes and two kinds of attention, and prints the
median with the memory of the activations. "unplanned" is what the same buffers would take without sharing.`,
		Example: "  headroom bench train --device cpu --json",
		Args:    cobra.NoArgs,
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
			for _, c := range train.BenchCases() {
				r, err := train.Bench(cmd.Context(), backend, c, steps)
				if err != nil {
					return &lab.Failed{Err: err}
				}
				results = append(results, r)
				if asJSON {
					continue
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%-6s L %d C %d B %2d T %d: %6.0f tokens/s, %.1f ms a step, arena %d MiB of %d MiB unplanned\n",
					r.Attention, r.Layers, r.Width, r.Batch, r.Context, r.TokensPerSecond, r.StepMillis, r.ArenaBytes>>20, r.UnplannedBytes>>20); err != nil {
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
	cmd.Flags().BoolVar(&asJSON, "json", false, `print {"results": [...]}`)
	return cmd
}
