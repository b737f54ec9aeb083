package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"headroom/attention"
	"headroom/data"
	"headroom/decode"
	"headroom/internal/lab"
)

// generation has the flags of generate.
type generation struct {
	prompt, file, tokenizer, draft string
	device, precision, cache       string
	maxTokens, lookup, guesses     int
	cacheMiB                       int
	parts                          parts
	stop                           []string
	sampling                       decode.Sampling
	speedUp                        bool
}

// A generated is the report of one generation.
type generated struct {
	Text        string        `json:"text"`
	Reason      decode.Reason `json:"reason"`
	Prompt      int           `json:"prompt_tokens"`
	Tokens      []int32       `json:"tokens"`
	FirstMillis float64       `json:"first_token_ms"`
	TokenMillis float64       `json:"token_ms"`
	SpeedUp     float64       `json:"speed_up,omitempty"` // by guesses
	decode.Counts
	decode.Memory
}

func generateCommand() *cobra.Command {
	var g generation
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "generate CHECKPOINT",
		Short: "continue a prompt",
		Long: `Generate continues a prompt and prints the text as it comes. CHECKPOINT is a run directory (its newest
checkpoint) or a checkpoint. Temperature 0 is greedy. With --draft or --lookup several tokens are guessed at a
time and checked in one pass: greedy text stays the same, and sampled text keeps its distribution.

A prompt begins with the token that documents begin with, and special tokens that are written in it are tokens
(docs/tokens.md).`,
		Example: `  headroom generate runs/first --prompt "Once upon a time" --max-tokens 100
  headroom generate runs/first/checkpoints/best --prompt-file start.txt --temperature 0 --lookup 4
  headroom generate runs/large --draft runs/small --prompt "func main" --stop "}" --json
  headroom generate runs/large --draft runs/small --prompt "func main" --temperature 0 --speed-up`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("prompt") == cmd.Flags().Changed("prompt-file") {
				return errors.New("generate: give one of --prompt and --prompt-file")
			}
			text := cmd.OutOrStdout()
			if asJSON {
				text = io.Discard
			}
			if err := g.parts.settle(cmd.Flags(), &g.device); err != nil {
				return err
			}
			report, err := g.do(cmd.Context(), args[0], text)
			if err == nil && asJSON {
				err = writeJSON(cmd.OutOrStdout(), report)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&g.device, "device", "cpu", "cpu or cuda")
	f.StringVar(&g.precision, "precision", "", "fp32 or bf16; empty is bf16 on cuda and fp32 on the cpu")
	f.StringVar(&g.cache, "cache-type", "", cacheHelp)
	g.parts.flags(f)
	f.StringVar(&g.prompt, "prompt", "", "the text to go on from")
	f.StringVar(&g.file, "prompt-file", "", "a file with the text to go on from")
	f.IntVar(&g.maxTokens, "max-tokens", 128, "most new tokens")
	f.Float64Var(&g.sampling.Temperature, "temperature", 0.8, "0 is greedy")
	f.IntVar(&g.sampling.TopK, "top-k", 0, "sample from the K likeliest tokens; 0 is all")
	f.Float64Var(&g.sampling.TopP, "top-p", 0, "sample from the fewest tokens that have this probability; 0 is all")
	f.Float64Var(&g.sampling.MinP, "min-p", 0, "sample from tokens at least this likely, beside the likeliest")
	f.Float64Var(&g.sampling.Repetition, "repetition-penalty", 1, "above 1 makes tokens that were there less likely")
	f.Uint64Var(&g.sampling.Seed, "seed", 1, "of the sampling")
	f.StringArrayVar(&g.stop, "stop", nil, "a string that ends the text; may be given many times")
	f.StringVar(&g.draft, "draft", "", "a checkpoint with the same tokenizer that guesses tokens")
	f.IntVar(&g.lookup, "lookup", 0, "guess so many tokens from what followed the same words before")
	f.IntVar(&g.guesses, "guesses", 4, "tokens that --draft guesses at a time")
	f.BoolVar(&g.speedUp, "speed-up", false, "generate once more without guesses, and say how much faster they made it")
	f.StringVar(&g.tokenizer, "tokenizer", "", "of a checkpoint that lies outside its run")
	f.IntVar(&g.cacheMiB, "cache-mib", 0, "memory of the cache; 0 is what the request needs")
	f.BoolVar(&asJSON, "json", false, "print the text with tokens and times as JSON")
	return cmd
}

// do generates, and streams the text to out.
func (g *generation) do(ctx context.Context, path string, out io.Writer) (*generated, error) {
	m, err := g.load(path)
	if err != nil {
		return nil, err
	}
	t, err := data.NewTokenizer(m.Tokenizer)
	if err != nil {
		return nil, err
	}
	prompt, err := g.tokens(t)
	if err != nil {
		return nil, err
	}
	lab.WarnUnproven(m.Transformer, g.device)
	on, err := lab.Decoder(g.device, g.precision, g.parts.devices, attention.CacheType(g.cache))
	if err != nil {
		return nil, err
	}
	defer on.Close()
	r := decode.Request{Prompt: prompt, MaxTokens: g.maxTokens, Stop: g.stop, Sampling: g.sampling}
	bytes := int64(g.cacheMiB) << 20
	if bytes == 0 {
		bytes = decode.BytesFor(m.Transformer, min(m.Config.Context, len(prompt)+max(0, g.maxTokens)), on.Cache())
	}
	memory := decode.Fit(m.Transformer, 1, bytes, on.Cache())
	o := decode.Options{Pages: memory.Pages, Tail: memory.Tail, Rows: 1, Chunk: on.Chunk(), Ends: t.Ends, Vocabulary: t}
	if o.Drafter, err = g.drafter(m, on, o); err != nil {
		return nil, err
	}
	largest, err := decode.Largest(m, on, o, m.Config.Context)
	if err != nil {
		return nil, err
	}
	slog.Info(memory.String(), "largest_batch_in_memory", largest, "context", m.Config.Context)
	if g.parts.devices > 1 {
		slog.Info("cache of each device", "bytes_per_token", m.CacheBytes(g.parts.devices, on.Cache()),
			"devices", g.parts.devices)
	}
	report, err := generateOnce(ctx, m, on, o, r, out, memory)
	if err != nil || o.Drafter == nil || !g.speedUp {
		return report, err
	}
	o.Drafter = nil
	plain, err := generateOnce(ctx, m, on, o, r, io.Discard, memory)
	if err == nil && report.TokenMillis > 0 {
		report.SpeedUp = plain.TokenMillis / report.TokenMillis
		slog.Info("without guesses", "token_ms", fmt.Sprintf("%.2f", plain.TokenMillis), "speed_up",
			fmt.Sprintf("%.2f", report.SpeedUp))
	}
	return report, err
}

// generateOnce runs one request on an engine of its own.
func generateOnce(ctx context.Context, m *decode.Model, on decode.Backend, o decode.Options, r decode.Request,
	out io.Writer, memory decode.Memory) (*generated, error) {
	e, err := decode.Open(m, on, o)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	s, err := e.Submit(r)
	if err != nil {
		return nil, err
	}
	return stream(ctx, e, s, out, memory)
}

// load reads a checkpoint, whose tokenizer is that of its run.
func (g *generation) load(path string) (*decode.Model, error) {
	checkpoint, c, err := lab.Checkpoint(path)
	if err != nil {
		return nil, err
	}
	m, err := decode.Load(checkpoint)
	if err != nil {
		return nil, err
	}
	if m.Tokenizer = c.Data.Tokenizer; g.tokenizer != "" {
		m.Tokenizer = g.tokenizer
	}
	if m.Tokenizer == "" {
		return nil, fmt.Errorf("generate: %s does not say its tokenizer: name it with --tokenizer", checkpoint)
	}
	return m, nil
}

// tokens are those of the prompt, with the token that texts begin with before it. Special tokens written in the prompt
// are tokens.
func (g *generation) tokens(t *data.Tokenizer) ([]int32, error) {
	text := []byte(g.prompt)
	if g.file != "" {
		var err error
		if text, err = os.ReadFile(g.file); err != nil {
			return nil, fmt.Errorf("generate: %w", err)
		}
	}
	if len(text) == 0 {
		return nil, errors.New("generate: the prompt is empty")
	}
	return t.Prompt(text), nil
}

func (g *generation) drafter(m *decode.Model, on decode.Backend, o decode.Options) (decode.Drafter, error) {
	switch {
	case g.speedUp && g.draft == "" && g.lookup == 0:
		return nil, errors.New("generate: --speed-up is that of guesses: give --draft or --lookup")
	case g.draft != "" && g.lookup != 0:
		return nil, errors.New("generate: give one of --draft and --lookup")
	case g.lookup < 0:
		return nil, fmt.Errorf("generate: lookup must not be negative, it is %d", g.lookup)
	case g.lookup > 0:
		return decode.Lookup{Guesses: g.lookup}, nil
	case g.draft == "":
		return nil, nil
	}
	draft, err := g.load(g.draft)
	if err != nil {
		return nil, err
	}
	d, err := decode.NewDraftModel(draft, on, o, g.guesses, m)
	if err != nil {
		return nil, err
	}
	slog.Info("draft "+decode.Pool(draft.Transformer, o.Pages, 0, on.Cache()).String(),
		"model", g.draft)
	return d, nil
}

// stream steps an engine until its one sequence ends. An interrupt ends it where it is.
func stream(ctx context.Context, e *decode.Engine, s *decode.Sequence, out io.Writer,
	memory decode.Memory) (*generated, error) {
	report := &generated{Prompt: len(s.Prompt), Memory: memory}
	start := time.Now()
	var first time.Time
	for e.Busy() {
		if ctx.Err() != nil {
			e.Cancel(s)
		} else if err := e.Step(); err != nil {
			return nil, &lab.Failed{Err: err}
		}
		if first.IsZero() && len(s.Output()) > 0 {
			first = time.Now()
		}
		text := s.Take()
		report.Text += text
		if _, err := io.WriteString(out, text); err != nil {
			return nil, &lab.Failed{Err: err}
		}
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return nil, &lab.Failed{Err: err}
	}
	report.Reason, report.Tokens, report.Counts = s.Reason, s.Output(), e.Counts
	n := len(report.Tokens)
	if n > 0 {
		report.FirstMillis = first.Sub(start).Seconds() * 1e3
	}
	if n > 1 {
		report.TokenMillis = time.Since(first).Seconds() * 1e3 / float64(n-1)
	}
	slog.Info("done", "reason", s.Reason, "tokens", n, "first_token_ms", fmt.Sprintf("%.1f", report.FirstMillis),
		"token_ms", fmt.Sprintf("%.2f", report.TokenMillis))
	if c := e.Counts; c.Drafted > 0 {
		slog.Info("guesses", "accepted", fmt.Sprintf("%.0f%%", 100*float64(c.Accepted)/float64(c.Drafted)), "tokens_a_pass",
			fmt.Sprintf("%.2f", float64(c.Tokens)/float64(c.Passes)))
	}
	return report, nil
}
