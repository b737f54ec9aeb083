package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Options says what Prepare reads and writes.
type Options struct {
	Tokenizer   string    // one of TokenizerNames
	Out         string    // folder of the shards; made if need be, and must hold none yet
	Name        string    // shards are called Name_000000.bin; empty: the folder's name
	Inputs      []string  // files, folders and globs
	TextField   string    // of a jsonl line; empty: "text"
	SkipBad     bool      // count bad jsonl lines instead of stopping at the first
	ShardTokens int64     // 0: 100 million
	Progress    io.Writer // where progress goes: a bar on a terminal, lines elsewhere; nil: nowhere

	create func(path string) (sink, error) // tests put a full disk here
}

// defaultShardTokens is the size of llm.c's own shards.
const defaultShardTokens = 100_000_000

// Prepare tokenizes text into shards, on all cores and in the order of the input. As in llm.c, each document begins
// with end-of-text. A document without text is left out. On an error nothing stays behind.
func Prepare(ctx context.Context, o Options) (*Meta, error) {
	tok, err := NewTokenizer(o.Tokenizer)
	if err != nil {
		return nil, err
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	files, skipped, err := expand(o.Inputs)
	if err != nil {
		return nil, err
	}
	w := &writer{dir: o.Out, name: o.Name, limit: o.ShardTokens, wide: tok.Vocab > 1<<16, create: o.create}
	w.meta = Meta{Tokenizer: tok.Name, Vocab: tok.Vocab, EndOfText: tok.EndOfText}
	progress := newProgress(o.Progress, files, skipped)
	err = pipeline(ctx, tok, &o, files, progress, func(r result) error {
		w.meta.Skipped += r.skipped
		return w.write(r.ids, r.Totals)
	})
	if err == nil && len(w.meta.Shards) == 0 {
		err = fmt.Errorf("data: no text in %d files (%d bad lines left out)", len(files), w.meta.Skipped)
	}
	if err == nil {
		err = w.commit()
	}
	progress.done(w.meta, err)
	if err != nil {
		w.abandon()
		return nil, err
	}
	return &w.meta, nil
}

// complete fills in the defaults and makes the output folder ready.
func (o *Options) complete() error {
	if o.TextField == "" {
		o.TextField = "text"
	}
	if o.ShardTokens == 0 {
		o.ShardTokens = defaultShardTokens
	}
	if o.ShardTokens < 1 || o.ShardTokens >= 1<<31 {
		return fmt.Errorf("data: %d tokens a shard: must be from 1 to 2147483647", o.ShardTokens)
	}
	if o.Out == "" {
		return errors.New("data: no folder to write to")
	}
	out, err := filepath.Abs(o.Out)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if o.Name == "" {
		o.Name = filepath.Base(out)
	}
	if o.create == nil {
		o.create = createFile
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(o.Out, "*.bin"))
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if _, err := os.Stat(filepath.Join(o.Out, metaName)); err == nil || len(old) > 0 {
		return fmt.Errorf("data: %s holds shards already: remove them or choose another folder", o.Out)
	}
	return nil
}

// A result is a tokenized block.
type result struct {
	ids     []int32
	skipped int
	err     error
	Totals
}

// A job is a block on its way through the workers; the result waits in its place in the queue.
type job struct {
	block
	out chan result
}

// pipeline reads files, tokenizes their blocks in parallel and hands the results to sink in the order of the input.
func pipeline(ctx context.Context, tok *Tokenizer, o *Options, files []string, p *progress, sink func(result) error) error {
	ctx, cancel := context.WithCancel(ctx)
	workers := runtime.GOMAXPROCS(0)
	work := make(chan job)
	queue := make(chan job, 2*workers) // bounds the blocks in memory
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for range workers {
		running.Go(func() {
			for j := range work {
				j.out <- tokenize(tok, o, j.block)
			}
		})
	}
	running.Go(func() {
		defer close(queue)
		defer close(work)
		for _, file := range files {
			err := readBlocks(ctx, file, p, func(b block) error {
				j := job{b, make(chan result, 1)}
				select {
				case queue <- j:
				case <-ctx.Done():
					return ctx.Err()
				}
				select {
				case work <- j:
				case <-ctx.Done():
					j.out <- result{err: ctx.Err()}
				}
				return ctx.Err()
			})
			if err != nil {
				failed := job{out: make(chan result, 1)}
				failed.out <- result{err: err}
				select {
				case queue <- failed:
				case <-ctx.Done():
				}
				return
			}
		}
	})
	for j := range queue {
		r := <-j.out
		if r.err != nil {
			return r.err
		}
		if err := sink(r); err != nil {
			return err
		}
		p.wrote(int64(len(r.ids)))
	}
	return ctx.Err()
}

// tokenize turns a block into ids, with end-of-text before each document that begins in it.
func tokenize(tok *Tokenizer, o *Options, b block) (r result) {
	r.ids = make([]int32, 0, len(b.data)/3+16)
	add := func(text []byte, begins bool) {
		if begins {
			r.ids = append(r.ids, tok.EndOfText)
			r.Documents++
		}
		r.ids = tok.Append(r.ids, text)
		r.Bytes += int64(len(text))
		r.Words += countWords(text)
	}
	if b.line == 0 {
		add(b.data, b.first)
		return r
	}
	line := b.line
	for data := range bytes.Lines(b.data) {
		text, ok, err := parseLine(data, o.TextField)
		switch {
		case err != nil && o.SkipBad:
			r.skipped++
		case err != nil:
			r.err = fmt.Errorf("data: %s:%d: %w", b.file, line, err)
			return r
		case ok && text != "":
			add([]byte(text), true)
		}
		line++
	}
	return r
}

// countWords counts what white space separates.
func countWords(text []byte) (n int64) {
	inside := false
	for i := 0; i < len(text); {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(text[i:])
		}
		space := unicode.IsSpace(r)
		if !space && !inside {
			n++
		}
		inside = !space
		i += size
	}
	return n
}
