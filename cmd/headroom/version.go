package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"headroom/kernels/ref"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print revision, Go version and the libraries behind this binary",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			revision, modified := "unknown", ""
			info, ok := debug.ReadBuildInfo()
			if !ok {
				info = &debug.BuildInfo{GoVersion: "unknown"}
			}
			for _, s := range info.Settings {
				switch {
				case s.Key == "vcs.revision":
					revision = s.Value
				case s.Key == "vcs.modified" && s.Value == "true":
					modified = " with changes"
				}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "headroom %s%s, %s, products by %s\n", revision, modified, info.GoVersion, ref.BLAS)
			return err
		},
	}
}
