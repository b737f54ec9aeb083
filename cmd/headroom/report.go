package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"headroom/internal/lab"
)

func reportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "report DIR…",
		Short: "write report.html of comparisons from their directories",
		Long: `Report reads a comparison and the runs beside it and writes report.html there: tables, laws over
sizes, loss curves, perplexity against cache, learning rates, decode speed, the differences in configuration,
and the commands that repeat it, in one file that needs no network. It writes the charts as .svg and .png too.
compare and quickstart end with it.

A run with gaps in its metrics, or of another version, is left out of the curves, and the report says so.`,
		Example: `  headroom report runs/kinds`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, dir := range args {
				if err := lab.Report(dir); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(dir, "report.html"))
			}
			return nil
		},
	}
}
