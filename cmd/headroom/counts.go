package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// least are the smallest values of flags, in every command that has them. Smaller values would count as not given, or
// fail only later.
var least = map[string]int64{
	"gpus": 1, "tensor-parallel": 1, "rank": 0, "local-rank": 0, "world-size": 0, "task": 1, "shard-tokens": 1,
	"min-count": 1, "cache-mib": 0,
}

// checkCounts refuses values below the least before a command runs.
func checkCounts(cmd *cobra.Command, _ []string) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		low, counts := least[f.Name]
		n, bad := strconv.ParseInt(f.Value.String(), 10, 64)
		if counts && bad == nil && n < low && err == nil {
			err = fmt.Errorf("--%s must be at least %d, not %d", f.Name, low, n)
		}
	})
	return err
}
