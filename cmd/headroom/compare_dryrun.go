package main

import (
	"fmt"
	"log/slog"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"headroom/eval"
	"headroom/internal/lab"
)

// dryRun prints what a comparison would train.
func dryRun(cmd *cobra.Command, c *lab.Compare, asJSON bool) error {
	slog.Info("compare: timing the beginning of a run of each arm", "arms", len(c.Arms))
	all, err := c.Estimate(cmd.Context())
	if err != nil {
		return err
	}
	worries, err := c.Concerns()
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), map[string]any{"arms": all, "seconds": lab.Duration(all).Seconds(),
			"warnings": append([]string{}, worries...)})
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', tabwriter.AlignRight)
	runs, flops := 0, 0.0
	fmt.Fprintln(w, "arm\tattention\trope dim\tlatent dim\tquery latent dim\tMLP\tparameters\tcache "+
		"B/token/layer\tin fp8\truns\ttokens a run\tFLOPs a run\ttokens/s\ttime a run\tbeside steps\t")
	for _, e := range all {
		speed, run, beside := "-", "-", "-"
		if e.Untimed == "" {
			one := e.Training + e.Beside
			speed, run, beside = fmt.Sprintf("%.0f", e.TokensPerSecond), lab.Seconds(one).String(),
				fmt.Sprintf("%.0f%%", 100*e.Beside/one)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%.3g\t%s\t%s\t%s\t\n", e.Arm, e.Attention, e.RopeDim,
			dim(e.LatentDim), dim(e.QueryLatentDim), e.MLP, e.Parameters, e.CacheBytes, e.CacheFP8, e.Runs, e.Tokens,
			e.FLOPs, speed, run, beside)
		runs, flops = runs+e.Runs, flops+float64(e.Runs)*e.FLOPs
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, e := range all {
		if e.Documents > 0 {
			fmt.Fprintf(cmd.OutOrStdout(), "\n%s: attention stays within documents, of which a row has %.4g on average\n",
				e.Arm, e.Documents)
		}
		if e.Unmatched != "" {
			fmt.Fprintf(cmd.OutOrStdout(), "\n%s\n", e.Unmatched)
		}
	}
	for _, w := range worries {
		fmt.Fprintf(cmd.OutOrStdout(), "\nWARNING: %s\n", w)
	}
	long := "about " + lab.Duration(all).String() + " in turn"
	if not := all[0].Unknown; not != "" {
		long += ", without " + not
	}
	if len(c.Decode) > 0 {
		long += ", without decode speed"
	}
	if why := all[0].Untimed; why != "" {
		long = "not timed (" + why + ")"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "\n%d runs, %.3g FLOPs, %s; in %s\n", runs, flops, long, c.Dir)
	if more, took := lab.Added(all); more > 0 {
		text := fmt.Sprintf("At most %d runs more try learning rates beyond these, up to %d on a side of each arm's",
			more, eval.MostBeyond)
		if took > 0 {
			text += ", about " + took.String()
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
	}
	return err
}

// dim prints a dimension that not every kind has.
func dim(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}
