package data

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/tiktoken-go/tokenizer/codec"
)

// endOfText is how the end-of-text of the vocabularies by name is shown. The same words inside a document are ordinary
// text.
const endOfText = "<|endoftext|>"

// A Tokenizer turns text into token ids and back. It may be used by several goroutines at once.
type Tokenizer struct {
	Name      string
	Vocab     int     // ids are 0..Vocab-1, special ones included
	EndOfText int32   // ends a text; in shards it stands between documents
	Ends      []int32 // all tokens that end a text, EndOfText first; some may lie beyond Vocab
	Begin     int32   // what a text begins with; negative: nothing

	pattern string                                  // of split, in Patterns
	split   func(scanner, []byte) int               // into pre-tokens
	merge   func(ids []int32, piece string) []int32 // appends the ids of a pre-token; nil: one id per byte
	codec   *codec.Codec                            // of the published vocabularies
	idle    chan *memo
	pieces  func() [][]byte // by id

	// What else a tokenizer.json may ask for.
	sum              string // of its bytes
	normalize        func([]byte) []byte
	cuts             []cutter // one within the other, instead of split
	prefixSpace      bool
	added, addedLate []hfAdded // tokens that stand for their text: those found before it is normalized, and after
	special          map[string]int32
	whole            bool // a text must not be cut where cutText would
}

// TokenizerNames lists what NewTokenizer accepts.
func TokenizerNames() []string { return []string{"bytes", "gpt2", "cl100k", "o200k"} }

// NewTokenizer returns a tokenizer by name, or the one that a tokenizer.json describes (a name that ends in .json): a
// byte-level BPE, whose ids are those of the Hugging Face tokenizers library, special tokens apart. "bytes" has the 256
// byte values and end-of-text; "gpt2", "cl100k" and "o200k" have their published vocabularies, special tokens included.
func NewTokenizer(name string) (*Tokenizer, error) {
	if strings.HasSuffix(name, ".json") {
		t, err := OpenTokenizer(os.DirFS(filepath.Dir(name)), filepath.Base(name))
		if err != nil {
			return nil, fmt.Errorf("data: tokenizer %s: %w", name, err)
		}
		t.Name = name
		return t, nil
	}
	t := &Tokenizer{Name: name}
	defer func() { t.Begin, t.Ends = t.EndOfText, []int32{t.EndOfText} }()
	switch name {
	case "bytes":
		t.Vocab, t.EndOfText = 257, 256
		return t, nil
	case "gpt2":
		t.Vocab, t.EndOfText, t.codec, t.split = 50257, 50256, codec.NewR50kBase(), scanner.gpt2
	case "cl100k":
		t.Vocab, t.EndOfText, t.codec, t.split = 100277, 100257, codec.NewCl100kBase(), scanner.cl100k
	case "o200k":
		t.Vocab, t.EndOfText, t.codec, t.split = 200019, 199999, codec.NewO200kBase(), scanner.o200k
	default:
		return nil, fmt.Errorf("data: tokenizer %q: must be one of %s, or a tokenizer.json", name,
			strings.Join(TokenizerNames(), ", "))
	}
	t.pattern = name
	t.idle = make(chan *memo, runtime.NumCPU())
	t.pieces = sync.OnceValue(t.decodePieces)
	// The library has the vocabulary. It does not merge for us: its expressions (tokenizer v0.10.0 on regexp2 v2.5.1) pass
	// over U+007F, which was lost, and cut "\n\t\n" in two, which o200k has as one token.
	merger := sync.OnceValue(func() *merger { return ranked(t.pieces()) })
	t.merge = func(ids []int32, piece string) []int32 { return merger().append(ids, piece) }
	return t, nil
}

// Append appends the ids of a text. Nothing in the text becomes a special token. The published vocabularies are
// defined on UTF-8: for them each byte that is not part of a valid rune is read as U+FFFD; "bytes" keeps every byte.
func (t *Tokenizer) Append(ids []int32, text []byte) []int32 {
	if t.merge == nil {
		for _, b := range text {
			ids = append(ids, int32(b))
		}
		return ids
	}
	if !utf8.Valid(text) {
		text = []byte(string([]rune(string(text))))
	}
	m := t.borrow()
	c := scanner{planeClasses()}
	if t.split == nil || t.normalize != nil || len(t.added) > 0 {
		ids = t.general(m, c, ids, text)
		text = nil
	}
	for len(text) > 0 {
		n := t.split(c, text)
		ids = m.append(ids, text[:n])
		text = text[n:]
	}
	t.giveBack(m)
	return ids
}

// EndName returns how the vocabulary calls its end-of-text.
func (t *Tokenizer) EndName() string {
	if t.sum != "" {
		return string(t.pieces()[t.EndOfText])
	}
	return endOfText
}

// Decode returns the text of ids. Special tokens are written as the vocabulary calls them: end-of-text is <|endoftext|>
// in those by name.
func (t *Tokenizer) Decode(ids []int32) ([]byte, error) {
	var text []byte
	for i, id := range ids {
		switch {
		case id == t.EndOfText:
			text = append(text, t.EndName()...)
		case t.merge == nil && 0 <= id && id < 256:
			text = append(text, byte(id))
		case t.merge != nil && 0 <= id && int(id) < t.Vocab && t.pieces()[id] != nil:
			text = append(text, t.pieces()[id]...)
		default:
			return nil, fmt.Errorf("data: id %d at position %d is no token of %s", id, i, t.Name)
		}
	}
	return text, nil
}

func (t *Tokenizer) decodePieces() [][]byte {
	pieces := make([][]byte, t.Vocab)
	for id := range pieces {
		if s, err := t.codec.Decode([]uint{uint(id)}); err == nil { // special and unused ids have no text
			pieces[id] = []byte(s)
		}
	}
	return pieces
}

func (t *Tokenizer) borrow() *memo {
	select {
	case m := <-t.idle:
		return m
	default:
		return &memo{merge: t.merge, known: make(map[string]span)}
	}
}

func (t *Tokenizer) giveBack(m *memo) {
	select {
	case t.idle <- m:
	default:
	}
}

// A memo remembers the ids of pre-tokens, for one goroutine. Text repeats its words: the merge loop runs for
// the few percent that are new.
type memo struct {
	merge func([]int32, string) []int32
	known map[string]span
	ids   []int32
}

type span struct{ start, end uint32 }

const (
	memoWords = 1 << 18 // about 25 MB for each core
	memoBytes = 64      // longer pre-tokens hardly ever come back
)

func (m *memo) append(ids []int32, piece []byte) []int32 {
	if at, ok := m.known[string(piece)]; ok {
		return append(ids, m.ids[at.start:at.end]...)
	}
	word, start := string(piece), len(ids)
	ids = m.merge(ids, word)
	if len(word) <= memoBytes {
		if len(m.known) == memoWords {
			clear(m.known)
			m.ids = m.ids[:0]
		}
		from := uint32(len(m.ids))
		m.ids = append(m.ids, ids[start:]...)
		m.known[word] = span{from, uint32(len(m.ids))}
	}
	return ids
}
