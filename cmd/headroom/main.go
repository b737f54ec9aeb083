// Command headroom trains small language models that differ in their attention, and compares them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"headroom/attention"
	_ "headroom/data/blob" // shards by URL
	"headroom/internal/lab"
	"headroom/internal/ranks"
	"headroom/train"
)

func main() {
	ctx, stop := train.Interruptible(context.Background(), func() { os.Exit(130) })
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program: 0 for fine, 1 for a run that failed, 2 for bad input or usage.
func run(ctx context.Context, args []string, out, logs io.Writer) int {
	slog.SetDefault(slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{ReplaceAttr: short})))
	root := command()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(logs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if child := (*ranks.Exit)(nil); errors.As(err, &child) { // the child has logged its error
		return child.Code
	}
	fmt.Fprintln(logs, "headroom:", strings.Join(strings.Fields(err.Error()), " "))
	var failed *lab.Failed
	if errors.As(err, &failed) {
		return 1
	}
	return 2
}

// short writes log lines without a date.
func short(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		a.Value = slog.StringValue(a.Value.Time().Format("15:04:05"))
	}
	return a
}

// kindLines describe each kind in a line.
func kindLines() (text string) {
	for _, d := range attention.Descriptions {
		text += fmt.Sprintf("  %-8s %s\n", d.Name(d.Usual), d.Title)
	}
	return text
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "headroom",
		Short: "train small language models that differ in their attention, and compare them",
		Long: `headroom trains small transformer language models that differ only in their attention, and compares them.

The kinds, where the number counts key/value or latent heads:

` + kindLines() + `
Reports go to stdout, logs to stderr. Exit codes: 0 fine, 1 a run failed, 2 bad input or usage.
` + "`headroom completion bash`" + ` (or zsh, fish) prints a script by which a shell
completes commands, flags and their values.`,
		Example: `  headroom quickstart
  headroom prepare --tokenizer gpt2 --out shards/books 'books/*.txt'
  headroom train run.yaml --out runs/first --set train.lr=3e-4
  headroom eval runs/first --data wiki=shards/wiki
  headroom compare kinds.yaml
  headroom generate runs/first --prompt "Once upon a time"`,
		SilenceErrors: true, SilenceUsage: true, PersistentPreRunE: checkCounts,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(quickstartCommand(), prepareCommand(), tokenizerCommand(), trainCommand(), evalCommand(),
		compareCommand(),
		generateCommand(), serveCommand(), exportCommand(), importCommand(), verifyCommand(), configCommand(),
		analyzeCommand(),
		benchCommand(), reportCommand(), watchCommand(), versionCommand())
	complete(root)
	return root
}
