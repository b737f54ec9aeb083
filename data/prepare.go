package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// Options says what Prepare reads and writes.
type Options struct {
	Tokenizer string   // one of TokenizerNames
	Out       string   // folder of the shards; made if need be, and must hold none yet
	Name      string   // shards are called Name_000000.bin; empty: the folder's name
	Inputs    []string // files, folders and globs
	// of a line of JSON, and the column of a parquet file; empty: "text", and files may be plain text
	TextField   string
	SkipBad     bool      // count bad jsonl lines instead of stopping at the first
	Dedup       bool      // leave out documents whose text has come before, byte for byte
	ShardTokens int64     // 0: 100 million
	Source      string    // kept in meta.json: TextSum of the inputs
	Progress    io.Writer // where progress goes: a bar on a terminal, lines elsewhere; nil: nowhere

	create func(path string) (sink, error) // replaced by tests, to act as a full disk
}

// defaultShardTokens is the size of llm.c's own shards.
const defaultShardTokens = 100_000_000

// Prepare tokenizes text into shards, on all cores and in the order of the input. As in llm.c, each document begins
// with end-of-text. A document without text is left out. A run that was killed or failed goes on behind its last
// finished shard when Prepare is called with the same options and inputs, and makes the same bytes; other inputs begin
// anew.
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
	lock, err := lockFolder(o.Out)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	progress := newProgress("prepare", o.Progress, files, skipped)
	inputs, err := progress.recognize(files, fieldOf(o.TextField))
	if err != nil {
		return nil, err
	}
	r, err := begin(&o, tok, files, progress)
	if err != nil {
		return nil, err
	}
	if !r.whole {
		err = pipeline(ctx, inputs, r.position, fieldOf(o.TextField), tok.whole, o.Dedup, progress,
			func(b block) result { return tokenize(tok, &o, b) }, r.take)
	}
	if err == nil && len(r.w.meta.Shards) == 0 {
		err = fmt.Errorf("data: no text in %d files (%d bad lines left out)", len(files), r.Skipped)
	}
	if err == nil {
		err = r.finish(o.Source)
	}
	progress.done(r.w.meta, err)
	if err != nil {
		if kept := r.w.abandon(); kept > 0 {
			progress.say("%d finished shards are kept: the same command goes on behind them", kept)
		}
		return nil, err
	}
	return &r.w.meta, nil
}

// A run is the state of one call of Prepare: its position in the input, its writer and the documents that it has seen.
type run struct {
	position        // of the current block, or of the block to resume at
	w        writer // of the shards
	seen     *seen
	whole    bool // all shards are finished, so nothing has to be read
	again    int  // ids of the first block that are in finished shards already
}

// begin returns a new run, or the one that the folder holds unfinished.
func begin(o *Options, tok *Tokenizer, files []string, p *progress) (*run, error) {
	r := &run{w: writer{dir: o.Out, name: o.Name, limit: o.ShardTokens, wide: tok.Vocab > 1<<16,
		create: o.create, inputs: files}}
	r.w.meta = Meta{Tokenizer: tok.Name, Vocab: tok.Vocab, EndOfText: tok.EndOfText}
	if open, _ := tok.Document(); open != tok.EndOfText {
		r.w.meta.Begin = &open
	}
	r.w.fingerprint = func(n int) (string, error) { return fingerprint(o, tok, files[:n]) }
	r.w.full = func(ids int) error { return r.save(ids, false) }
	u, err := readUnfinished(o.Out)
	if err != nil {
		return nil, err
	}
	if u != nil {
		why := u.usable(o, tok, files, &r.w)
		if why == nil && o.Dedup {
			r.seen, why = openSeen(o.Out, u.Position.Seen)
		}
		if why == nil {
			r.position, r.whole, r.again, r.w.meta = u.Position, u.All, u.Position.IDs, u.Meta
			p.resumed(u.Meta)
			return r, nil
		}
		p.say("%s holds an unfinished run, but %v: beginning anew", o.Out, why)
		r.w.forget(u.Meta.Shards)
	}
	if o.Dedup {
		r.seen, err = openSeen(o.Out, 0)
	}
	return r, err
}

// take writes the ids of the next block, without those of duplicates and those that were written before an
// interruption.
func (r *run) take(b result) error {
	r.File, r.Block, r.Seen = b.file, b.block, r.seen.len()
	dropping := r.Dropping
	r.seen.filter(&b, &dropping)
	r.IDs = 0
	if r.again > 0 {
		b.ids, r.IDs, r.again, b.Totals = b.ids[r.again:], r.again, 0, Totals{}
	}
	if err := r.w.write(b.ids, b.Totals); err != nil {
		return err
	}
	r.Dropping = dropping
	r.Skipped += b.skipped
	r.Invalid += b.invalid
	r.Duplicates += b.duplicates
	return nil
}

// save records a finished shard and the place behind it: so many ids further in the block under way.
func (r *run) save(ids int, all bool) error {
	if err := r.seen.store(r.w.dir, r.Seen); err != nil {
		return err
	}
	p := r.position
	p.IDs += ids
	return r.w.save(p, all)
}

// finish ends the last shard and gives all their names.
func (r *run) finish(source string) error {
	r.w.meta.Skipped, r.w.meta.Invalid, r.w.meta.Duplicates, r.w.meta.Source = r.Skipped, r.Invalid, r.Duplicates, source
	if !r.whole {
		if err := r.w.end(); err != nil {
			return err
		}
		if err := r.save(0, true); err != nil {
			return err
		}
	}
	return r.w.commit()
}

// complete fills in the defaults and makes the output folder ready.
func (o *Options) complete() error {
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
	if _, err := os.Stat(filepath.Join(o.Out, progressName)); err == nil {
		return nil // unfinished, perhaps between two of its renames
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
	file, block int // its place
	ids         []int32
	goesOn      bool       // with the document of the block before
	documents   []document // where duplicates are left out
	duplicates  int
	tally
	words map[string]int64 // pre-tokens, where a tokenizer is trained
	err   error
	Totals
}

// A job is a block on its way through the workers; the result waits in its place in the queue.
type job struct {
	block
	at, number int // of the file, and of the block in it
	out        chan result
}

// pipeline reads files, turns their blocks in parallel and hands the results to sink in the order of the input.
// from is the block to begin at; field, whole and hashed are readBlocks's.
func pipeline(ctx context.Context, files []input, from position, field field, whole, hashed bool, p *progress,
	turn func(block) result, sink func(result) error) error {
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
				r, err := unless(ctx, func() result { return turn(j.block) })
				if err != nil {
					r.err = err
				}
				r.file, r.block = j.at, j.number
				j.out <- r
			}
		})
	}
	running.Go(func() { p.tick(ctx) })
	running.Go(func() {
		defer close(queue)
		defer close(work)
		for i := from.File; i < len(files); i++ {
			number := -1
			err := readBlocks(ctx, files[i], field, whole, hashed, p, func(b block) error {
				if number++; i == from.File && number < from.Block {
					return nil
				}
				j := job{b, i, number, make(chan result, 1)}
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

// unless runs some work, but returns without waiting for it when ctx ends. Text without a space is one word, and a word
// of many megabytes may take minutes.
func unless[T any](ctx context.Context, work func() T) (result T, err error) {
	done := make(chan T, 1)
	go func() { done <- work() }()
	select {
	case result = <-done:
		return result, nil
	case <-ctx.Done():
		return result, ctx.Err()
	}
}

// tokenize turns a block into ids, with what opens a document before each that begins in it.
func tokenize(tok *Tokenizer, o *Options, b block) (r result) {
	r.ids = make([]int32, 0, len(b.data)/3+16)
	open, closed := tok.Document()
	r.goesOn = b.line == 0 && !b.first
	r.tally, r.err = b.documents(fieldOf(o.TextField).name, o.SkipBad, func(text []byte, begins bool) {
		d := document{start: len(r.ids)}
		if begins {
			r.ids = append(r.ids, open)
			d.Documents = 1
		}
		r.ids = tok.Append(r.ids, text)
		if closed && (b.line > 0 || b.rows != nil || b.last) {
			r.ids = append(r.ids, tok.EndOfText)
		}
		d.Bytes, d.Words, d.end = int64(len(text)), countWords(text), len(r.ids)
		r.add(d.Totals)
		if o.Dedup && begins {
			if d.hash = b.hash; b.line > 0 {
				d.hash = hashDocument(text)
			}
			r.documents = append(r.documents, d)
		}
	})
	return r
}
