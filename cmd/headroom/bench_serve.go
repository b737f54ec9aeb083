package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"headroom/internal/lab"
	"headroom/serve/load"
)

// serveBench has the flags of bench serve.
type serveBench struct {
	target         load.Target
	plan           load.Plan
	concurrency    []int
	rates          []float64
	load           string // a named load
	prompt, output string
	presets, kinds []string
	serve          string // more arguments of the servers that are started
	device         string
	plots          []string
	asJSON         bool
}

func benchServeCommand() *cobra.Command { return benchServeFlags(new(serveBench)) }

// benchServeFlags is the command with its flags bound to b.
func benchServeFlags(b *serveBench) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve [URL]",
		Short: "put load on a server and measure latency and throughput",
		Long: `Bench serve sends completions of random tokens to an OpenAI-compatible server. It measures the time to
the first token, the time between tokens, the time of whole requests, and the tokens a second of all requests.
--concurrency is a closed loop: each of so many clients waits for its answer before it asks again. --rate is an
open loop: requests come at random times, so many a second on average, whether or not the server keeps up, and
latency counts from when a request was due. Each value is a load of its own. Good requests are those within the
limits.

Without a URL it starts a server of this program for each of --presets in turn, with random weights, and shows
how kinds of attention serve under load. Lengths are one number (512), a range (128-1024), or a mixture with
weights (128-1024:0.9,16384:0.1).

--load names a whole load; other flags change its values:
` + loadsHelp() + `
A preset's model gets the context that the lengths need. Tokens a second are those of the whole load,
in part of which clients are idle. --json has those while every client was busy too (all_busy), and both reports
have those while no prompt was being processed (decoding), when reading the cache takes most of the time.`,
		Example: `  headroom bench serve http://127.0.0.1:8000 --concurrency 1,8,64 --prompt 512 --output 128
  headroom bench serve http://127.0.0.1:8000 --rate 2,4,8 --first-limit 500ms --gap-limit 50ms --plot load.svg
  headroom bench serve --presets quickstart --attention gqa-4,gta-4,mla,gla-2 --prompt 16-64 --output 8-32
  headroom bench serve --presets 876m-gqa-4,876m-gta-4,876m-mla,876m-gla-2 --device cuda --concurrency 16,64,128 \
    --prompt 128-1024:0.9,1900:0.1 --output 64-128 --json
  headroom bench serve --presets 876m-gqa-4,876m-gta-4 --device cuda --load long --plot long.svg`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return b.do(cmd, args) },
	}
	f := cmd.Flags()
	f.StringVar(&b.load, "load", "", "a named load: "+strings.Join(loadNames(), " or "))
	f.IntSliceVar(&b.concurrency, "concurrency", nil,
		"requests at once; each value is a load (1,16,64 where no rate is given)")
	f.Float64SliceVar(&b.rates, "rate", nil, "requests a second; each value is a load")
	f.IntVar(&b.plan.Requests, "requests", 0, "requests of each load; 0 is four times the concurrency, at least 32")
	f.IntVar(&b.plan.Warm, "warm", -1, "requests before them that are not measured; -1 is the concurrency")
	f.StringVar(&b.prompt, "prompt", "128-512", "tokens of the prompts")
	f.StringVar(&b.output, "output", "32-128", "tokens of the answers")
	f.Uint64Var(&b.plan.Seed, "seed", 1, "of lengths, tokens and times")
	f.DurationVar(&b.plan.FirstLimit, "first-limit", time.Second,
		"a good request has its first token within this; 0 is no limit")
	f.DurationVar(&b.plan.GapLimit, "gap-limit", 100*time.Millisecond,
		"and its others follow in this, on average; 0 is no limit")
	f.StringVar(&b.target.Model, "model", "", "the model to ask for; empty is the server's first")
	f.StringVar(&b.target.Key, "key", "", "an API key; empty is $OPENAI_API_KEY")
	f.IntVar(&b.target.Vocab, "vocab", 0, "tokens to draw prompts from; 0 asks the server's /tokenizer_info")
	f.StringSliceVar(&b.presets, "presets", nil,
		"without a URL: the presets to serve with random weights, one after the other")
	f.StringSliceVar(&b.kinds, "attention", nil, "without a URL: each preset with each of these kinds; empty is its own")
	f.StringVar(&b.serve, "serve-flags", "", "without a URL: more flags of headroom serve, in one string")
	f.StringVar(&b.device, "device", "cpu", "without a URL: cpu or cuda")
	f.StringArrayVar(&b.plots, "plot", nil,
		"draw time per token against tokens a second to a .png or .svg; may be given many times")
	f.BoolVar(&b.asJSON, "json", false, `print {"results": [...]}`)
	return cmd
}

func (b *serveBench) do(cmd *cobra.Command, args []string) (err error) {
	if (len(args) == 1) == (len(b.presets) > 0) {
		return errors.New("bench serve: give the URL of a server, or --presets to start servers of")
	}
	if err := b.named(cmd.Flags()); err != nil {
		return err
	}
	if b.plan.Prompt, err = load.ParseLengths(b.prompt); err != nil {
		return err
	}
	if b.plan.Output, err = load.ParseLengths(b.output); err != nil {
		return err
	}
	for _, path := range b.plots {
		if err := load.CheckPicture(path); err != nil {
			return err
		}
	}
	plans, err := b.plans()
	if err != nil {
		return err
	}
	if b.target.Key == "" {
		b.target.Key = os.Getenv("OPENAI_API_KEY")
	}
	var results []load.Result
	if len(args) == 1 {
		b.target.URL = args[0]
		results, err = b.loads(cmd.Context(), "", plans, cmd.ErrOrStderr())
	} else {
		results, err = b.compare(cmd.Context(), plans, cmd.ErrOrStderr())
	}
	if len(results) > 0 { // results from before a failure are reported too
		err = errors.Join(err, b.report(cmd.OutOrStdout(), results))
	}
	if err != nil {
		return &lab.Failed{Err: err}
	}
	return nil
}

// report draws and prints results.
func (b *serveBench) report(out io.Writer, results []load.Result) error {
	for _, path := range b.plots {
		if err := load.Plot(path, results); err != nil {
			return err
		}
	}
	if b.asJSON {
		return writeJSON(out, map[string]any{"results": results})
	}
	_, err := io.WriteString(out, load.Table(results))
	return err
}

// plans are the loads, closed ones first.
func (b *serveBench) plans() (plans []load.Plan, err error) {
	if len(b.concurrency)+len(b.rates) == 0 {
		b.concurrency = []int{1, 16, 64}
	}
	add := func(p load.Plan, atOnce int) {
		if p.Requests == 0 {
			p.Requests = max(32, 4*atOnce)
		}
		if p.Warm < 0 {
			p.Warm = atOnce
		}
		if err == nil {
			err = p.Check()
		}
		plans = append(plans, p)
	}
	for _, n := range b.concurrency {
		p := b.plan
		p.Concurrency = n
		add(p, n)
	}
	for _, rate := range b.rates {
		p := b.plan
		p.Rate = rate
		add(p, int(rate))
	}
	return plans, err
}

// loads puts all loads on one server. Each has prompts of its own, so that none finds its prefix in the cache.
func (b *serveBench) loads(ctx context.Context, name string, plans []load.Plan, logs io.Writer) (
	results []load.Result, err error) {
	t := b.target
	if err := t.Ask(ctx); err != nil {
		return nil, err
	}
	for i, p := range plans {
		p.Seed += uint64(i) << 32
		bar := progressbar.NewOptions(p.Requests+p.Warm, progressbar.OptionSetWriter(logs),
			progressbar.OptionSetDescription("bench serve"),
			progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetVisibility(term.IsTerminal(int(os.Stderr.Fd()))))
		p.Progress = func(done, _ int) { bar.Set(done) } // a failure to draw the bar does not matter
		r, err := t.Run(ctx, p)
		if err != nil {
			return results, err
		}
		r.Name = name
		if r.Requests == r.Failed+r.Refused {
			return results, fmt.Errorf("bench serve: none of %d requests was served: %s", r.Requests,
				strings.Join(append(r.Errors, fmt.Sprintf("%d refused", r.Refused)), "; "))
		}
		slog.Info("load", "server", t.Model, "load", r.Load(), "tokens/s", fmt.Sprintf("%.4g", r.TokensPerSecond), "failed",
			r.Failed, "refused", r.Refused)
		results = append(results, r)
	}
	return results, nil
}

// compare serves one preset, or kind of it, after the other.
func (b *serveBench) compare(ctx context.Context, plans []load.Plan, logs io.Writer) (all []load.Result, err error) {
	kinds := b.kinds
	if len(kinds) == 0 {
		kinds = []string{""} // the preset's own
	}
	for _, preset := range b.presets {
		for _, kind := range kinds {
			name := strings.TrimSpace(preset + " " + kind)
			model, err := b.model(preset, kind)
			if err != nil {
				return all, err
			}
			results, err := b.served(ctx, name, model, plans, logs)
			all = append(all, results...)
			if err != nil {
				return all, fmt.Errorf("bench serve: %s: %w", name, err)
			}
		}
	}
	return all, nil
}

// served starts a server of a model, puts the loads on it, and stops it.
func (b *serveBench) served(ctx context.Context, name string, model []string, plans []load.Plan, logs io.Writer) (
	results []load.Result, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	atOnce := 1
	for _, p := range plans {
		atOnce = max(atOnce, p.Concurrency)
	}
	args := slices.Concat([]string{"serve", "--random", "--device", b.device, "--addr", "127.0.0.1:0", "--rows",
		strconv.Itoa(max(64, atOnce))},
		model, strings.Fields(b.serve))
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = logs
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM) // where the server has ended already, Wait returns its error
		if ended := cmd.Wait(); err == nil && ended != nil {
			err = fmt.Errorf("the server: %w", ended)
		}
	}()
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.New("the server did not start")
	}
	b.target.URL = strings.TrimSpace(url)
	return b.loads(ctx, name, plans, logs)
}
