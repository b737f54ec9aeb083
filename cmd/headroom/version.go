package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"headroom/internal/build"
	"headroom/kernels/ref"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version and revision, Go's version and the library of products behind this binary",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "headroom %s, revision %s, %s, products by %s\n",
				build.Version, build.Revision(), runtime.Version(), ref.BLAS)
			return err
		},
	}
}
