package data

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"

	"github.com/dlclark/regexp2/v2"
	"golang.org/x/text/unicode/norm"
)

// The tokenizer.json of the Hugging Face tokenizers library, as far as byte-level BPE uses it.
type hfTokenizer struct {
	Added        []hfAdded `json:"added_tokens"`
	Normalizer   *hfPart   `json:"normalizer"`
	PreTokenizer *hfPart   `json:"pre_tokenizer"`
	Model        hfModel   `json:"model"`

	PostProcessor *hfProcessor `json:"post_processor"`
}

type hfAdded struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// An hfPart is a normalizer or a pre-tokenizer; Type says which, and which fields count.
type hfPart struct {
	Type          string   `json:"type"`
	Normalizers   []hfPart `json:"normalizers"`
	PreTokenizers []hfPart `json:"pretokenizers"`
	PrefixSpace   bool     `json:"add_prefix_space"`
	UseRegex      *bool    `json:"use_regex"` // true where it is left out
	Pattern       struct{ Regex, String *string }
	Behavior      string `json:"behavior"`
	Invert        bool   `json:"invert"`
	Individual    bool   `json:"individual_digits"`
}

type hfModel struct {
	Type         string            `json:"type"`
	Dropout      *float64          `json:"dropout"`
	Prefix       string            `json:"continuing_subword_prefix"`
	Suffix       string            `json:"end_of_word_suffix"`
	ByteFallback bool              `json:"byte_fallback"`
	IgnoreMerges bool              `json:"ignore_merges"`
	Vocab        map[string]int32  `json:"vocab"`
	Merges       []json.RawMessage `json:"merges"` // "a b" or ["a", "b"]
}

// maxVocab bounds the ids that a file may give: twenty times the largest vocabulary in use.
const maxVocab = 1 << 22

// OpenTokenizer reads a tokenizer.json of a folder, and the files beside it that name special tokens.
func OpenTokenizer(folder fs.FS, name string) (*Tokenizer, error) {
	text, err := fs.ReadFile(folder, name)
	if err != nil {
		return nil, err
	}
	beside, err := readBeside(folder, name)
	if err != nil {
		return nil, err
	}
	t, err := parseTokenizer(text, beside)
	if err == nil {
		t.Name = name
	}
	return t, err
}

// parseTokenizer builds what a tokenizer.json describes; beside are the files beside it that name special tokens.
func parseTokenizer(text []byte, beside map[string][]byte) (*Tokenizer, error) {
	var f hfTokenizer
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("no tokenizer.json: %w", err)
	}
	sum := sha256.Sum256(text)
	t := &Tokenizer{sum: hex.EncodeToString(sum[:])}
	table, err := f.pieces()
	if err != nil {
		return nil, err
	}
	t.Vocab, t.pieces = len(table), func() [][]byte { return table }
	if err := t.setSpecial(&f, beside); err != nil {
		return nil, err
	}
	b, err := f.Model.merger()
	if err != nil {
		return nil, err
	}
	t.merge = b.append
	if t.normalize, err = f.Normalizer.normalizer(); err != nil {
		return nil, err
	}
	if err := t.setSplit(f.PreTokenizer); err != nil {
		return nil, err
	}
	if err := t.setAdded(f.Added); err != nil {
		return nil, err
	}
	t.idle = make(chan *memo, runtime.NumCPU())
	return t, nil
}

// pieces are the bytes of each id.
func (f *hfTokenizer) pieces() ([][]byte, error) {
	most := int32(-1)
	check := func(id int32, token string) error {
		if id < 0 || id >= maxVocab {
			return fmt.Errorf("token %q has id %d, must be from 0 to %d", token, id, maxVocab-1)
		}
		most = max(most, id)
		return nil
	}
	for token, id := range f.Model.Vocab {
		if err := check(id, token); err != nil {
			return nil, err
		}
	}
	for _, a := range f.Added {
		if err := check(a.ID, a.Content); err != nil {
			return nil, err
		}
	}
	table := make([][]byte, most+1)
	for token, id := range f.Model.Vocab {
		piece, ok := unspelled(token)
		if !ok {
			piece = []byte(token)
		}
		if table[id] != nil {
			return nil, fmt.Errorf("id %d belongs to two tokens, %q and %q", id, table[id], piece)
		}
		table[id] = piece
	}
	for _, a := range f.Added {
		table[a.ID] = []byte(a.Content)
	}
	return table, nil
}

func (m *hfModel) merger() (*merger, error) {
	switch {
	case m.Type != "" && m.Type != "BPE":
		return nil, fmt.Errorf("model type %q: only byte-level BPE is read", m.Type)
	case m.Dropout != nil && *m.Dropout != 0, m.Prefix != "", m.Suffix != "", m.ByteFallback:
		return nil, errors.New("a BPE with dropout, subword prefix or suffix, or byte fallback: only byte-level BPE is read")
	}
	b := &merger{merges: make(map[pair]merge, len(m.Merges))}
	for c, r := range Alphabet {
		id, ok := m.Vocab[string(r)]
		if !ok && c != 0xc0 && c != 0xc1 && c < 0xf5 { // these bytes are in no UTF-8
			return nil, fmt.Errorf("byte 0x%02x (%q) has no token: only byte-level BPE is read", c, r)
		}
		b.bytes[c] = id
	}
	for rank, raw := range m.Merges {
		left, right, err := parseMerge(raw)
		if err != nil {
			return nil, fmt.Errorf("merge %d: %w", rank, err)
		}
		l, okL := m.Vocab[left]
		r, okR := m.Vocab[right]
		id, ok := m.Vocab[left+right]
		if !okL || !okR || !ok {
			return nil, fmt.Errorf("merge %d: %q and %q and what they make must be in the vocabulary", rank, left, right)
		}
		b.merges[pair{l, r}] = merge{int32(rank), id} // of two merges of one pair the later counts, as in the library
	}
	if m.IgnoreMerges {
		b.whole = make(map[string]int32, len(m.Vocab))
		for token, id := range m.Vocab {
			if piece, ok := unspelled(token); ok {
				b.whole[string(piece)] = id
			}
		}
	}
	return b, nil
}

func parseMerge(raw json.RawMessage) (left, right string, err error) {
	var parts []string
	if json.Unmarshal(raw, &parts) != nil {
		var line string
		if err := json.Unmarshal(raw, &line); err != nil {
			return "", "", fmt.Errorf("%s: must be two tokens", raw)
		}
		parts = strings.Split(line, " ")
	}
	if len(parts) != 2 {
		return "", "", fmt.Errorf("%s: must be two tokens", raw)
	}
	return parts[0], parts[1], nil
}

// normalizer returns the function that texts go through first, nil where there is none.
func (p *hfPart) normalizer() (func([]byte) []byte, error) {
	if p == nil {
		return nil, nil
	}
	switch p.Type {
	case "NFC":
		return func(text []byte) []byte { return normalize(norm.NFC, text) }, nil
	case "NFD":
		return func(text []byte) []byte { return normalize(norm.NFD, text) }, nil
	case "NFKC":
		return func(text []byte) []byte { return normalize(norm.NFKC, text) }, nil
	case "NFKD":
		return func(text []byte) []byte { return normalize(norm.NFKD, text) }, nil
	case "Sequence":
		var all []func([]byte) []byte
		for _, q := range p.Normalizers {
			n, err := q.normalizer()
			if err != nil {
				return nil, err
			}
			if n != nil {
				all = append(all, n)
			}
		}
		return func(text []byte) []byte {
			for _, n := range all {
				text = n(text)
			}
			return text
		}, nil
	}
	return nil, fmt.Errorf("normalizer %q: must be NFC, NFD, NFKC, NFKD or a Sequence of them", p.Type)
}

// Patterns are the pre-token patterns that tokenizers of our names and many published ones use, in the syntax of the
// tokenizers library; each has a scanner of its own. The library's ByteLevel splits by gpt2's itself.
var Patterns = map[string]string{
	"gpt2":   `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
	"cl100k": contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
	"qwen2":  contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
	"o200k": `[^\r\n\p{L}\p{N}]?` + upperRunes + `*` + lowerRunes + `+` + contractions + `?|[^\r\n\p{L}\p{N}]?` +
		upperRunes + `+` + lowerRunes + `*` +
		contractions + `?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
}

const (
	contractions = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	upperRunes   = `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
	lowerRunes   = `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
)

var scanners = map[string]func(scanner, []byte) int{"gpt2": scanner.gpt2, "cl100k": scanner.cl100k,
	"qwen2": scanner.qwen2, "o200k": scanner.o200k}

// A cutter calls emit with the pieces of a text in order.
type cutter func(c scanner, text []byte, emit func([]byte))

// setSplit chooses a scanner where the pre-tokenizer is one that has one; others go through a regular expression.
func (t *Tokenizer) setSplit(p *hfPart) error {
	if p == nil {
		return errors.New("no pre-tokenizer: only byte-level BPE is read")
	}
	parts := []hfPart{*p}
	if p.Type == "Sequence" {
		parts = p.PreTokenizers
	}
	var names []string
	level := false
	for _, q := range parts {
		name, cut, err := q.cutter()
		if err != nil {
			return err
		}
		if q.Type == "ByteLevel" {
			level = true
			t.prefixSpace = t.prefixSpace || q.PrefixSpace
		}
		if cut != nil {
			names, t.cuts = append(names, name), append(t.cuts, cut)
		}
	}
	if !level {
		return errors.New("no ByteLevel among the pre-tokenizers: only byte-level BPE is read")
	}
	if t.prefixSpace && len(parts) > 1 {
		return errors.New("add_prefix_space beside other pre-tokenizers is not read")
	}
	t.whole = t.prefixSpace || len(t.cuts) == 0
	for _, name := range names {
		t.whole = t.whole || name == ""
	}
	if len(names) == 1 && names[0] != "" && !t.prefixSpace {
		t.pattern, t.split, t.cuts = names[0], scanners[names[0]], nil
	}
	return nil
}

// cutter returns the cutter of a pre-tokenizer, nil where it does not cut, and the name of its pattern where text may
// be cut into blocks before it.
func (p *hfPart) cutter() (name string, cut cutter, err error) {
	switch {
	case p.Type == "ByteLevel" && (p.UseRegex == nil || *p.UseRegex):
		return "gpt2", scanCutter(scanner.gpt2), nil
	case p.Type == "ByteLevel":
		return "", nil, nil
	case p.Type == "Digits":
		pattern := `\p{N}+`
		if p.Individual {
			pattern = `\p{N}`
		}
		cut, err := regexCutter(pattern)
		return "digits", cut, err
	case p.Type != "Split":
		return "", nil, fmt.Errorf("pre-tokenizer %q: must be ByteLevel, Split, Digits or a Sequence of them", p.Type)
	case p.Behavior != "Isolated" && !(p.Behavior == "Removed" && p.Invert):
		return "", nil, fmt.Errorf("a Split that is %q, inverted %v: must be Isolated, or Removed and inverted",
			p.Behavior, p.Invert)
	case p.Pattern.Regex == nil && p.Pattern.String == nil:
		return "", nil, errors.New("a Split without a pattern")
	case p.Pattern.Regex == nil:
		cut, err := regexCutter(regexp2.Escape(*p.Pattern.String))
		return "", cut, err
	}
	for name, known := range Patterns {
		if *p.Pattern.Regex == known {
			return name, scanCutter(scanners[name]), nil
		}
	}
	cut, err = regexCutter(*p.Pattern.Regex)
	return "", cut, err
}

func scanCutter(split func(scanner, []byte) int) cutter {
	return func(c scanner, text []byte, emit func([]byte)) {
		for len(text) > 0 {
			n := split(c, text)
			emit(text[:n])
			text = text[n:]
		}
	}
}

// regexCutter makes each match and each stretch between two matches a piece.
func regexCutter(pattern string) (cutter, error) {
	re, err := regexp2.Compile(pattern, regexp2.None)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	return func(_ scanner, text []byte, emit func([]byte)) {
		runes := []rune(string(text))
		at := 0
		send := func(end int) {
			if end > at {
				emit([]byte(string(runes[at:end])))
				at = end
			}
		}
		for m, err := re.FindRunesMatch(runes); m != nil && err == nil; m, err = re.FindNextMatch(m) {
			send(m.RuneIndex)
			send(m.RuneIndex + m.RuneLength)
		}
		send(len(runes))
	}, nil
}

// setAdded keeps the added tokens that a text may hold: those that are not special, longest first.
func (t *Tokenizer) setAdded(added []hfAdded) error {
	t.special = map[string]int32{}
	for _, a := range added {
		switch {
		case a.Special:
			t.special[a.Content] = a.ID
			continue
		case a.Content == "":
			return fmt.Errorf("added token %d is empty", a.ID)
		case a.SingleWord || a.LStrip || a.RStrip:
			return fmt.Errorf("added token %q: single_word, lstrip and rstrip are read for special tokens alone", a.Content)
		case a.Normalized && t.normalize != nil:
			a.Content = string(t.normalize([]byte(a.Content)))
			t.addedLate = append(t.addedLate, a)
		default:
			t.added = append(t.added, a)
		}
		t.whole = true
	}
	for _, list := range [][]hfAdded{t.added, t.addedLate} {
		slices.SortStableFunc(list, func(a, b hfAdded) int { return len(b.Content) - len(a.Content) })
	}
	return nil
}

// cutAdded calls token with the ids of added tokens in a text, and text with the stretches between them.
func cutAdded(added []hfAdded, text []byte, stretch func([]byte), token func(int32)) {
	if len(added) == 0 {
		stretch(text)
		return
	}
	var firsts [256]bool
	for _, a := range added {
		firsts[a.Content[0]] = true
	}
	from := 0
next:
	for i := 0; i < len(text); {
		if firsts[text[i]] {
			for _, a := range added {
				if bytes.HasPrefix(text[i:], []byte(a.Content)) {
					if i > from {
						stretch(text[from:i])
					}
					token(a.ID)
					i += len(a.Content)
					from = i
					continue next
				}
			}
		}
		i++
	}
	if from < len(text) {
		stretch(text[from:])
	}
}

// general appends the ids of a text by the full rules of a tokenizer.json. Tokenizers with simpler rules have faster
// ways.
func (t *Tokenizer) general(m *memo, c scanner, ids []int32, text []byte) []int32 {
	token := func(id int32) { ids = append(ids, id) }
	var cut func(level int, text []byte)
	cut = func(level int, text []byte) {
		if level == len(t.cuts) {
			ids = m.append(ids, text)
			return
		}
		t.cuts[level](c, text, func(piece []byte) { cut(level+1, piece) })
	}
	pieces := func(text []byte) {
		if t.prefixSpace && len(text) > 0 && text[0] != ' ' {
			text = append([]byte{' '}, text...)
		}
		switch {
		case len(text) == 0:
		case t.split != nil:
			scanCutter(t.split)(c, text, func(piece []byte) { ids = m.append(ids, piece) })
		default:
			cut(0, text)
		}
	}
	cutAdded(t.added, text, func(text []byte) {
		if t.normalize != nil {
			text = t.normalize(text)
		}
		cutAdded(t.addedLate, text, pieces, token)
	}, token)
	return ids
}
