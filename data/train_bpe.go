package data

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"headroom/internal/disk"
)

// TrainOptions says what a tokenizer is trained on.
type TrainOptions struct {
	Inputs    []string // as of Prepare
	TextField string
	SkipBad   bool
	Vocab     int       // ids, the 256 bytes and end-of-text included
	Pattern   string    // into pre-tokens, one of Patterns; empty: gpt2
	MinCount  int64     // a pair that comes less often is not merged; 0: 2
	Out       string    // the tokenizer.json to write
	Progress  io.Writer // nil: nowhere
}

// TrainTokenizer trains a byte-level BPE (Sennrich et al., 2016, arXiv:1508.07909) and writes it as a tokenizer.json:
// id 0 is end-of-text, then come the bytes in the order of their runes in Alphabet, then the merges, the most frequent
// pair first and of equal ones that of the lower ids, as the Hugging Face tokenizers library does. Fewer than Vocab ids
// are made where the text has no more pairs; the number made is returned.
func TrainTokenizer(ctx context.Context, o TrainOptions) (vocab int, err error) {
	if o.Pattern == "" {
		o.Pattern = "gpt2"
	}
	if o.MinCount == 0 {
		o.MinCount = 2
	}
	split := scanners[o.Pattern]
	switch {
	case split == nil:
		return 0, fmt.Errorf("data: pattern %q: must be one of %s", o.Pattern,
			strings.Join(slices.Sorted(maps.Keys(Patterns)), ", "))
	case o.Vocab < 257 || o.Vocab > maxVocab:
		return 0, fmt.Errorf("data: a vocabulary of %d: must be from 257, the bytes and end-of-text, to %d",
			o.Vocab, maxVocab)
	case o.MinCount < 1:
		return 0, fmt.Errorf("data: least count %d: must be at least 1", o.MinCount)
	case !strings.HasSuffix(o.Out, ".json"):
		return 0, fmt.Errorf("data: %q: a tokenizer's file must end in .json", o.Out)
	}
	counts, err := countPreTokens(ctx, o, split)
	if err != nil {
		return 0, err
	}
	if len(counts) == 0 {
		return 0, errors.New("data: no text to train a tokenizer on")
	}
	var made atomic.Int64 // by now
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go tellVocabulary(ctx, o, &made)
	type learned struct {
		tokens []string
		pairs  [][2]string
		err    error
	}
	l, err := unless(ctx, func() (l learned) {
		l.tokens, l.pairs, l.err = learn(ctx, counts, o.Vocab, o.MinCount, &made)
		return l
	})
	if err = errors.Join(err, l.err); err != nil {
		return 0, err
	}
	tokens, pairs := l.tokens, l.pairs
	return len(tokens), writeHF(o.Out, o.Pattern, tokens, pairs)
}

// tellVocabulary says now and then how many tokens there are.
func tellVocabulary(ctx context.Context, o TrainOptions, made *atomic.Int64) {
	if o.Progress == nil {
		return
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			fmt.Fprintf(o.Progress, "tokenizer train: %d of %d tokens\n", made.Load(), o.Vocab)
		}
	}
}

// countPreTokens counts the pre-tokens of all documents.
func countPreTokens(ctx context.Context, o TrainOptions, split func(scanner, []byte) int) (map[string]int64, error) {
	files, skipped, err := expand(o.Inputs)
	if err != nil {
		return nil, err
	}
	total, left := map[string]int64{}, tally{}
	count := func(b block) (r result) {
		r.words = map[string]int64{}
		c := scanner{planeClasses()}
		r.tally, r.err = b.documents(fieldOf(o.TextField).name, o.SkipBad, func(text []byte, _ bool) {
			text = bytes.ToValidUTF8(text, []byte("\ufffd"))
			for len(text) > 0 {
				n := split(c, text)
				r.words[string(text[:n])]++
				text = text[n:]
			}
		})
		return r
	}
	p := newProgress("tokenizer train", o.Progress, files, skipped)
	inputs, err := p.recognize(files, fieldOf(o.TextField))
	if err != nil {
		return nil, err
	}
	err = pipeline(ctx, inputs, position{}, fieldOf(o.TextField), false, false, p, count, func(r result) error {
		for word, n := range r.words {
			total[word] += n
		}
		left.skipped += r.skipped
		left.invalid += r.invalid
		return nil
	})
	p.clear()
	if err == nil {
		p.tally(left)
	}
	return total, err
}

// A learner keeps how often each pair of ids stands side by side, and in which words.
type learner struct {
	words  [][]int32
	counts []int64 // of the words
	pairs  map[pair]int64
	where  map[pair]map[int32]struct{}
	queue  frequencies
}

type frequency struct {
	pair
	count int64
}

// frequencies is a heap: the most frequent pair first, then that of the lower ids.
type frequencies []frequency

func (f frequencies) Len() int { return len(f) }
func (f frequencies) Less(i, j int) bool {
	if f[i].count != f[j].count {
		return f[i].count > f[j].count
	}
	return cmp.Or(cmp.Compare(f[i].pair[0], f[j].pair[0]), cmp.Compare(f[i].pair[1], f[j].pair[1])) < 0
}
func (f frequencies) Swap(i, j int) { f[i], f[j] = f[j], f[i] }

// Push appends, for container/heap.
func (f *frequencies) Push(x any) { *f = append(*f, x.(frequency)) }

// Pop takes the last, for container/heap.
func (f *frequencies) Pop() any {
	old := *f
	x := old[len(old)-1]
	*f = old[:len(old)-1]
	return x
}

// learn returns the tokens by id, spelled in the alphabet, and the merges in their order.
func learn(ctx context.Context, counts map[string]int64, vocab int, least int64, made *atomic.Int64) (tokens []string,
	merges [][2]string, err error) {
	tokens = []string{endOfText}
	letters := slices.Sorted(slices.Values(Alphabet[:]))
	ids := map[string]int32{endOfText: 0}
	for _, r := range letters {
		ids[string(r)] = int32(len(tokens))
		tokens = append(tokens, string(r))
	}
	l := &learner{pairs: map[pair]int64{}, where: map[pair]map[int32]struct{}{}}
	for _, word := range slices.Sorted(maps.Keys(counts)) {
		parts := make([]int32, len(word))
		for i := range len(word) {
			parts[i] = ids[string(Alphabet[word[i]])]
		}
		l.words, l.counts = append(l.words, parts), append(l.counts, counts[word])
		l.count(int32(len(l.words)-1), 1)
	}
	for p, n := range l.pairs {
		l.queue = append(l.queue, frequency{p, n})
	}
	heap.Init(&l.queue)
	for len(tokens) < vocab && len(l.queue) > 0 {
		f := heap.Pop(&l.queue).(frequency)
		switch now := l.pairs[f.pair]; {
		case now != f.count && now > 0:
			heap.Push(&l.queue, frequency{f.pair, now})
			continue
		case now <= 0:
			continue
		case now < least:
			return tokens, merges, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		token := tokens[f.pair[0]] + tokens[f.pair[1]]
		id, known := ids[token] // two ways may make one token
		if !known {
			id = int32(len(tokens))
			ids[token] = id
			tokens = append(tokens, token)
			made.Store(int64(len(tokens)))
		}
		merges = append(merges, [2]string{tokens[f.pair[0]], tokens[f.pair[1]]})
		l.merge(f.pair, id)
	}
	return tokens, merges, nil
}

// count adds the pairs of a word, sign times, and returns them.
func (l *learner) count(word int32, sign int64) (changed []pair) {
	parts := l.words[word]
	for i := 1; i < len(parts); i++ {
		p := pair{parts[i-1], parts[i]}
		l.pairs[p] += sign * l.counts[word]
		if sign > 0 {
			if l.where[p] == nil {
				l.where[p] = map[int32]struct{}{}
			}
			l.where[p][word] = struct{}{}
		}
		changed = append(changed, p)
	}
	return changed
}

// merge puts an id in the place of a pair in every word that has it.
func (l *learner) merge(p pair, id int32) {
	grown := map[pair]struct{}{}
	for word := range l.where[p] {
		l.count(word, -1)
		parts := l.words[word]
		out := parts[:0]
		for i := 0; i < len(parts); i++ {
			if i+1 < len(parts) && parts[i] == p[0] && parts[i+1] == p[1] {
				out = append(out, id)
				i++
			} else {
				out = append(out, parts[i])
			}
		}
		l.words[word] = out
		for _, q := range l.count(word, 1) {
			if q[0] == id || q[1] == id {
				grown[q] = struct{}{}
			}
		}
	}
	delete(l.where, p)
	delete(l.pairs, p)
	for q := range grown {
		heap.Push(&l.queue, frequency{q, l.pairs[q]})
	}
}

// writeHF writes a tokenizer.json, whole or not at all.
func writeHF(path, pattern string, tokens []string, merges [][2]string) error {
	type object = map[string]any
	vocab := make(object, len(tokens))
	for id, token := range tokens {
		vocab[token] = id
	}
	level := object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": pattern == "gpt2"}
	split := level
	if pattern != "gpt2" {
		split = object{"type": "Sequence", "pretokenizers": []object{
			{"type": "Split", "pattern": object{"Regex": Patterns[pattern]}, "behavior": "Isolated", "invert": false}, level}}
	}
	if merges == nil {
		merges = [][2]string{}
	}
	text, err := json.MarshalIndent(object{
		"version": "1.0", "truncation": nil, "padding": nil, "normalizer": nil,
		"post_processor": BeginProcessor(endOfText, 0),
		"added_tokens": []object{{"id": 0, "content": endOfText, "single_word": false, "lstrip": false, "rstrip": false,
			"normalized": false, "special": true}},
		"pre_tokenizer": split, "decoder": level,
		"model": object{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
			"end_of_word_suffix": nil,
			"fuse_unk":           false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges},
	}, "", " ")
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if err := disk.Replace(path, append(text, '\n')); err != nil {
		return fmt.Errorf("data: writing %s: %w", path, err)
	}
	return nil
}
