package main

import (
	"github.com/spf13/cobra"

	"headroom/internal/lab"
)

func quickstartCommand() *cobra.Command {
	var q lab.Quickstart
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "quickstart",
		Short: "train and compare four attention kinds on the sources of the Go distribution",
		Long: `Quickstart prepares the sources and documentation of the Go distribution on this machine as bytes,
trains GQA, GTA, MLA and GLA models with as many parameters each, and prints the comparison. It takes about
eight minutes on two cores.

It validates on packages and on the language specification, which are held out as files. Run again, it keeps
what is finished.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q.Log = cmd.ErrOrStderr()
			c, err := q.Compare(cmd.Context())
			if err != nil {
				return err
			}
			self, err := child()
			if err != nil {
				return err
			}
			table, err := c.Do(cmd.Context(), lab.Jobs{N: 1, Child: self})
			return report(cmd, c.Dir, table, asJSON, err)
		},
	}
	cmd.Flags().StringVar(&q.Dir, "out", "runs/quickstart", "where data and runs go")
	cmd.Flags().BoolVar(&q.Short, "short", false, "one seed and few steps, for CI")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the comparison as JSON")
	return cmd
}
