package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"headroom/data"
)

// preTokenizers are llama.cpp's names of the patterns that texts are cut by. Bytes have no merges: any will do.
var preTokenizers = map[string]string{"": "gpt-2", "gpt2": "gpt-2", "cl100k": "dbrx",
	"qwen2": "qwen2", "o200k": "gpt-4o"}

// wholeWords is its name of cl100k's pattern where a word that is a token is not merged but taken whole.
const wholeWords = "llama-bpe"

// How a token is used in a GGUF file.
const (
	normalToken, controlToken, userToken, unusedToken = 1, 3, 4, 5
)

// A bpe is a byte-level BPE as GGUF has it.
type bpe struct {
	tokens []string // by id, in the alphabet of byte-level BPE but for special and added ones; empty where there is none
	types  []int32
	merges []string
	whole  bool // words that are tokens are taken whole
}

// ggufTokenizer are the keys of a tokenizer: of the kind that is called gpt2, with its merges and its pre-tokenizer.
func ggufTokenizer(t *data.Tokenizer, vocab int) ([]key, error) {
	pattern, err := t.Pattern()
	if err != nil {
		return nil, fmt.Errorf("%w; --no-tokenizer leaves it out", err)
	}
	b, err := bpeOf(t)
	switch {
	case err != nil:
		return nil, err
	case len(b.tokens) > vocab:
		return nil, fmt.Errorf("it has %d tokens, the model has %d", len(b.tokens), vocab)
	}
	pre := preTokenizers[pattern]
	if b.whole && pattern == "cl100k" {
		pre = wholeWords
	} else if b.whole {
		return nil, fmt.Errorf("words that are tokens are taken whole (ignore_merges), which GGUF has for the pattern "+
			"cl100k alone, not for %s; --no-tokenizer leaves it out", pattern)
	}
	begin, _ := t.Document()
	for id := range vocab {
		if id == len(b.tokens) {
			b.tokens, b.types = append(b.tokens, ""), append(b.types, 0)
		}
		if b.tokens[id] == "" {
			b.tokens[id], b.types[id] = fmt.Sprintf("[unused%d]", id), unusedToken
		}
	}
	keys := []key{
		{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.pre", pre}, {"tokenizer.ggml.tokens", b.tokens},
		{"tokenizer.ggml.token_type", b.types}, {"tokenizer.ggml.merges", b.merges},
		{"tokenizer.ggml.bos_token_id", uint32(begin)}, {"tokenizer.ggml.add_bos_token", t.Begin >= 0},
	}
	names := []string{"eos", "eot", "eom"} // what the format has room for
	for i, end := range t.Ends {
		if i == len(names) {
			slog.Warn("gguf: a file names three tokens that end a text: the others are known to readers by their names alone",
				"tokens", t.Ends[i:])
			break
		}
		if int(end) < vocab {
			keys = append(keys, key{"tokenizer.ggml." + names[i] + "_token_id", uint32(end)})
		}
	}
	return keys, nil
}

// bpeOf reads what a tokenizer's file says, or makes it of the pieces of one of ours.
func bpeOf(t *data.Tokenizer) (b bpe, err error) {
	if filepath.Ext(t.Name) == ".json" {
		return readBPE(t.Name)
	}
	pieces := pieces(t)
	b.tokens, b.types = make([]string, len(pieces)), make([]int32, len(pieces))
	for id, piece := range pieces {
		b.tokens[id], b.types[id] = printable(piece), normalToken
	}
	b.tokens[t.EndOfText], b.types[t.EndOfText] = endOfText, controlToken
	for _, p := range merges(pieces) {
		b.merges = append(b.merges, p[0]+" "+p[1])
	}
	return b, nil
}

// readBPE reads a tokenizer.json, which NewTokenizer has found sound.
func readBPE(path string) (b bpe, err error) {
	var f struct {
		Added []struct {
			ID      int32
			Content string
			Special bool
		} `json:"added_tokens"`
		Model struct {
			Vocab  map[string]int32
			Merges []json.RawMessage
			Whole  bool `json:"ignore_merges"`
		}
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		return b, err
	}
	b.whole = f.Model.Whole
	set := func(id int32, token string, kind int32) {
		for int(id) >= len(b.tokens) {
			b.tokens, b.types = append(b.tokens, ""), append(b.types, 0)
		}
		b.tokens[id], b.types[id] = token, kind
	}
	for token, id := range f.Model.Vocab {
		set(id, token, normalToken)
	}
	for _, a := range f.Added {
		kind := int32(userToken)
		if a.Special {
			kind = controlToken
		}
		set(a.ID, a.Content, kind)
	}
	seen := map[string]bool{}
	for _, raw := range slices.Backward(f.Model.Merges) { // of two merges of one pair the later counts
		line, err := mergeLine(raw)
		if err != nil {
			return b, err
		}
		if !seen[line] {
			seen[line], b.merges = true, append(b.merges, line)
		}
	}
	slices.Reverse(b.merges)
	return b, nil
}

// mergeLine is a merge as "a b", which is one of the two forms that files have.
func mergeLine(raw json.RawMessage) (line string, err error) {
	if json.Unmarshal(raw, &line) == nil {
		return line, nil
	}
	var parts []string
	if err := json.Unmarshal(raw, &parts); err != nil || len(parts) != 2 {
		return "", errors.New("a merge must be two tokens")
	}
	return strings.Join(parts, " "), nil
}
