package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"headroom/attention"
	"headroom/data"
	"headroom/decode"
	"headroom/internal/lab"
	"headroom/serve"
)

// serving has the flags of serve.
type serving struct {
	run                     runFlags // of --random
	random                  bool
	addr, name, tokenizer   string
	precision, cache        string
	keys, template          string
	certificate, key        string
	cacheMiB, chunk, scored int
	parts                   parts
	config                  serve.Config
}

func serveCommand() *cobra.Command {
	var s serving
	cmd := &cobra.Command{
		Use:   "serve CHECKPOINT | [CONFIG] --random",
		Short: "serve a checkpoint over HTTP to OpenAI clients",
		Long: `Serve answers /v1/completions (text and token ids, stream, echo, logprobs, n, stop, seed),
/v1/chat/completions where it is given a chat template, /v1/models, /tokenize, /detokenize, /tokenizer_info,
/status, /healthz and /metrics, and has a page at / to try it. All requests share the passes of one engine, and
prompts that begin alike share their cache. CHECKPOINT is a run directory (its newest checkpoint) or a
checkpoint. With --random the model is that of a configuration, with the weights that training would start from,
to measure speed.

It listens on the loopback unless --addr says otherwise. The first SIGTERM or interrupt lets running requests
end, the second ends at once.

A chat template is Go's text/template over .Messages, each with .Role and .Content. Special tokens that the
template writes are tokens, those in messages are text. A text prompt begins with the token that documents begin
with; "add_special_tokens": false leaves it out, and true adds it to a chat (docs/tokens.md). A key of a request
that would change the answer and is not supported is an error; docs/serve.md has the list.`,
		Example: `  headroom serve runs/first
  headroom serve runs/first --addr 0.0.0.0:8443 --keys keys.txt --tls-cert cert.pem --tls-key key.pem
  headroom serve --random --preset 183m-gqa-4 --device cuda --addr 127.0.0.1:0`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return s.do(cmd, args) },
	}
	f := cmd.Flags()
	f.StringVar(&s.addr, "addr", "127.0.0.1:8000", "where to listen; port 0 is any that is free, and is printed")
	f.StringVar(&s.name, "name", "", "of the model; empty is the directory's")
	f.StringVar(&s.run.device, "device", "cpu", "cpu or cuda")
	f.StringVar(&s.precision, "precision", "", "fp32 or bf16; empty is bf16 on cuda and fp32 on the cpu")
	f.StringVar(&s.cache, "cache-type", "", cacheHelp)
	s.parts.flags(f)
	f.StringVar(&s.tokenizer, "tokenizer", "",
		"of a checkpoint that lies outside its run, or with --random; without one, texts are numbers")
	f.StringVar(&s.template, "chat-template", "", "a file with the template of chats")
	f.IntVar(&s.cacheMiB, "cache-mib", 0,
		"memory of the cache; 0 is as much as all rows may need, up to 80% of what is free")
	f.IntVar(&s.config.Rows, "rows", 64, "most sequences in a pass")
	f.IntVar(&s.chunk, "chunk", 0,
		"most prompt tokens in a pass; 0 is 2048, or what the device can use where that is less")
	f.IntVar(&s.scored, "scored", 256, "most prompt tokens in a pass whose log probabilities are computed")
	f.IntVar(&s.config.Queue, "queue", 1024, "most sequences that wait; more are told to come back")
	f.IntVar(&s.config.Sequences, "sequences", 256, "most sequences of one request: prompts times n")
	f.Int64Var(&s.config.Body, "body", 4<<20, "most bytes of one request")
	f.DurationVar(&s.config.Timeout, "timeout", 10*time.Minute, "most time of one request")
	f.DurationVar(&s.config.Stall, "stall", 30*time.Second,
		"most time that a client may take to send its request, or not to read")
	f.DurationVar(&s.config.Drain, "drain", 30*time.Second, "most time that requests in work get at the end")
	f.StringVar(&s.keys, "keys", "", "a file with API keys, one a line; without it nobody needs one")
	f.StringVar(&s.certificate, "tls-cert", "", "a certificate file (PEM)")
	f.StringVar(&s.key, "tls-key", "", "its key file (PEM)")
	f.BoolVar(&s.random, "random", false, "serve a configuration with random weights")
	f.StringVar(&s.run.preset, "preset", "", "with --random: values below those of the file")
	f.StringVar(&s.run.attention, "attention", "", "with --random: the attention kind in short, as in gla-2")
	f.StringArrayVar(&s.run.sets, "set", nil, "with --random: override one key; may be given many times")
	return cmd
}

func (s *serving) do(cmd *cobra.Command, args []string) error {
	if err := s.parts.settle(cmd.Flags(), &s.run.device); err != nil {
		return err
	}
	if err := s.check(); err != nil {
		return err
	}
	m, err := s.load(args)
	if err != nil {
		return err
	}
	lab.WarnUnproven(m.Transformer, s.run.device)
	on, err := lab.Decoder(s.run.device, s.precision, s.parts.devices, attention.CacheType(s.cache))
	if err != nil {
		return err
	}
	defer on.Close()
	o := decode.Options{
		Rows: s.config.Rows, Chunk: cmp.Or(s.chunk, min(2048, on.Chunk())), Scored: s.scored, Pages: 1,
		Vocabulary: serve.Numbers{},
	}
	if m.Tokenizer != "" {
		t, err := data.NewTokenizer(m.Tokenizer)
		if err != nil {
			return err
		}
		o.Vocabulary, s.config.Tokenizer = t, t
		o.Ends, s.config.Ends, s.config.Begin, s.config.Specials = t.Ends, t.Ends, t.BeginText(nil), t.Specials()
	}
	memory, err := s.memory(m, on, o)
	if err != nil {
		return err
	}
	o.Pages, o.Tail = memory.Pages, memory.Tail
	e, err := decode.Open(m, on, o)
	if err != nil {
		return err
	}
	defer e.Close()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() && s.keys == "" {
		slog.Warn("everybody who reaches this address may use the server: --keys turns others away", "addr", l.Addr())
	}
	slog.Info(memory.String(), "attention", m.Attention.Name(), "rows", o.Rows, "chunk", o.Chunk, "context",
		m.Config.Context, "device", on.Name())
	if s.parts.devices > 1 {
		slog.Info("cache of each device", "bytes_per_token", m.CacheBytes(s.parts.devices, on.Cache()),
			"devices", s.parts.devices)
	}
	scheme := map[bool]string{false: "http", true: "https"}[s.certificate != ""]
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s://%s\n", scheme, l.Addr()); err != nil {
		return &lab.Failed{Err: err}
	}
	if err := serve.New(m, e, memory, s.config).Serve(cmd.Context(), l, s.certificate, s.key); err != nil {
		return &lab.Failed{Err: err}
	}
	return nil
}

// check reads the files that flags name, and checks the other flags.
func (s *serving) check() error {
	c := s.config
	switch {
	case c.Rows < 1 || c.Queue < 1 || c.Sequences < 1 || c.Body < 1:
		return errors.New("serve: rows, queue, sequences and body must be at least 1")
	case c.Timeout <= 0 || c.Stall <= 0 || c.Drain <= 0:
		return errors.New("serve: timeout, stall and drain must be above 0")
	case s.chunk < 0 || s.scored < 1:
		return errors.New("serve: chunk must not be negative, and scored at least 1")
	case (s.certificate == "") != (s.key == ""):
		return errors.New("serve: give both of --tls-cert and --tls-key, or none")
	}
	if s.keys != "" {
		text, err := os.ReadFile(s.keys)
		if err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		if s.config.Keys = strings.Fields(string(text)); len(s.config.Keys) == 0 {
			return fmt.Errorf("serve: %s has no keys: it must have one a line", s.keys)
		}
	}
	if s.template != "" {
		text, err := os.ReadFile(s.template)
		if err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		if s.config.Chat, err = serve.NewTemplate(string(text)); err != nil {
			return err
		}
	}
	return nil
}

// load reads the checkpoint, or makes the model of a configuration.
func (s *serving) load(args []string) (*decode.Model, error) {
	if s.random {
		return s.make(args)
	}
	if len(args) == 0 || s.run.preset != "" || s.run.attention != "" || len(s.run.sets) > 0 {
		return nil, errors.New("serve: give a checkpoint and no configuration, or --random")
	}
	checkpoint, c, err := lab.Checkpoint(args[0])
	if err != nil {
		return nil, err
	}
	m, err := decode.Load(checkpoint)
	if err != nil {
		return nil, err
	}
	if m.Tokenizer = cmp.Or(s.tokenizer, c.Data.Tokenizer); m.Tokenizer == "" {
		return nil, fmt.Errorf("serve: %s does not say its tokenizer: name it with --tokenizer", checkpoint)
	}
	path, err := filepath.Abs(args[0])
	s.config.Name = cmp.Or(s.name, filepath.Base(path))
	return m, err
}

func (s *serving) make(args []string) (*decode.Model, error) {
	r, m, err := s.run.untrained(args)
	if err != nil {
		return nil, err
	}
	s.config.Name = cmp.Or(s.name, r.Attention.Name())
	m.Tokenizer = s.tokenizer
	return m, nil
}

// memory is the number of bytes of the cache: as many as all rows may need, if that fits.
func (s *serving) memory(m *decode.Model, on decode.Backend, o decode.Options) (decode.Memory, error) {
	bytes := int64(s.cacheMiB) << 20
	if bytes == 0 {
		limits, err := o.Limits(m)
		if err != nil {
			return decode.Memory{}, err
		}
		available, err := on.Available(m, limits)
		if err != nil {
			return decode.Memory{}, &lab.Failed{Err: err}
		}
		bytes = int64(o.Rows) * decode.BytesFor(m.Transformer, m.Config.Context, on.Cache())
		if available > 0 {
			bytes = min(bytes, available/5*4)
		}
	}
	memory := decode.Fit(m.Transformer, o.Rows, bytes, on.Cache())
	if memory.Batch(m.Config.Context) < 1 {
		return memory, fmt.Errorf("serve: %d MiB of cache hold no request of the model's context of %d: it takes %d MiB",
			bytes>>20, m.Config.Context, decode.BytesFor(m.Transformer, m.Config.Context, on.Cache())>>20+1)
	}
	return memory, nil
}
