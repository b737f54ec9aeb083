package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"headroom/configs"
)

func configCommand() *cobra.Command {
	config := &cobra.Command{Use: "config", Short: "show configurations", Args: cobra.NoArgs}
	config.AddCommand(configPrintCommand(), configPresetsCommand())
	return config
}

func configPrintCommand() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "print [FILE]",
		Short: "print a resolved run, with where each value came from",
		Long: `Print resolves a run and prints it as YAML. Values override each other in this order: flags (--set
train.lr=3e-4), the environment (HEADROOM_TRAIN_LR), the file, the preset, the defaults. docs/config.md says
what every key is.

Dimensions of attention that are 0 or left out are the paper's for the kind; they are printed with their values
and with the rule.`,
		Example: `  headroom config print run.yaml
  headroom config print --preset 183m-gla-2
  HEADROOM_TRAIN_LR=1e-3 headroom config print run.yaml --set train.steps=500`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := flags.input(args)
			if err != nil {
				return err
			}
			r, err := configs.Load(in)
			if err != nil {
				return err
			}
			return r.Print(cmd.OutOrStdout())
		},
	}
	flags.add(cmd)
	return cmd
}

func configPresetsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "presets",
		Short: "list the presets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range configs.Presets() {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
