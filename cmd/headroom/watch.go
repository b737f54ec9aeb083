package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"headroom/watch"
)

func watchCommand() *cobra.Command {
	var addr string
	var terminal, asJSON bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "watch DIR…",
		Short: "show the runs under directories as they train, on a local page or in the terminal",
		Long: `Watch follows metrics.jsonl of every run under the directories, also of runs that begin later: loss,
learning rate, gradient norm, tokens per second, memory and perplexity. The page is fed by server-sent events
and listens on the loopback unless --addr says otherwise; anyone who reaches the address can read the figures.
With --terminal it draws a table in the terminal instead. Where stdout is no terminal the table is printed once,
with --json as data.`,
		Example: `  headroom watch runs
  headroom watch runs/kinds --terminal
  headroom watch runs --json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if every <= 0 {
				return fmt.Errorf("watch: --every must be positive, not %v", every)
			}
			w, err := watch.New(args)
			if err != nil {
				return err
			}
			ctx, out := cmd.Context(), cmd.OutOrStdout()
			switch {
			case asJSON:
				all, _ := w.Statuses()
				return writeJSON(out, append([]watch.Status{}, all...))
			case terminal && !isTerminal(out):
				return w.Table(out, 0)
			}
			go w.Follow(ctx, every)
			if terminal {
				for {
					width, _, _ := term.GetSize(int(os.Stdout.Fd()))
					fmt.Fprint(out, "\x1b[H\x1b[2J")
					if err := w.Table(out, width); err != nil {
						return err
					}
					_, news := w.Statuses()
					select {
					case <-ctx.Done():
						return nil
					case <-news:
					}
				}
			}
			l, err := net.Listen("tcp", addr)
			if err != nil {
				return fmt.Errorf("watch: --addr: %w", err)
			}
			fmt.Fprintf(out, "http://%s\n", l.Addr())
			return w.Serve(ctx, l)
		},
	}
	f := cmd.Flags()
	f.StringVar(&addr, "addr", "127.0.0.1:6007", "where to listen; port 0 is any that is free, and is printed")
	f.BoolVar(&terminal, "terminal", false, "a table in the terminal instead of a page")
	f.BoolVar(&asJSON, "json", false, "print how the runs stand now as JSON")
	f.DurationVar(&every, "every", time.Second, "how often to look")
	return cmd
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
