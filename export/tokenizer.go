package export

import (
	"fmt"
	"path/filepath"
	"slices"

	"headroom/data"
)

// endOfText begins each document, and ends it.
const endOfText = "<|endoftext|>"

type object = map[string]any

// writeTokenizer writes tokenizer.json and tokenizer_config.json for one of our tokenizers: a byte-level BPE whose text
// begins with end-of-text, as documents and prompts do here. It differs from ours in one thing, as these files do:
// where a text holds the words <|endoftext|>, they are that token.
func writeTokenizer(dir, name string, context int) error {
	t, err := data.NewTokenizer(name)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if filepath.Ext(name) == ".json" {
		if err := passTokenizer(dir, name, t); err != nil {
			return err
		}
		return writeTokenizerConfig(dir, filepath.Join(filepath.Dir(name), "tokenizer_config.json"), t, context)
	}
	pieces := pieces(t)
	vocab := object{}
	for id, piece := range pieces {
		if piece != "" {
			vocab[printable(piece)] = id
		}
	}
	whole := object{
		"version": "1.0", "truncation": nil, "padding": nil, "normalizer": nil,
		"added_tokens": []object{{"id": t.EndOfText, "content": endOfText, "single_word": false, "lstrip": false,
			"rstrip":     false,
			"normalized": false, "special": true}},
		"pre_tokenizer":  splitter(name),
		"post_processor": data.BeginProcessor(endOfText, t.EndOfText),
		"decoder":        byteLevel(true),
		"model": object{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
			"end_of_word_suffix": nil,
			"fuse_unk":           false, "byte_fallback": false, "ignore_merges": true, "vocab": vocab,
			"merges": merges(pieces)},
	}
	if err := writeJSON(filepath.Join(dir, "tokenizer.json"), whole); err != nil {
		return err
	}
	return writeTokenizerConfig(dir, "", t, context)
}

// pieces are the texts of a tokenizer's ids, empty where there is none.
func pieces(t *data.Tokenizer) []string {
	all := make([]string, t.Vocab)
	for id := range all {
		if int32(id) == t.EndOfText {
			continue
		}
		if text, err := t.Decode([]int32{int32(id)}); err == nil { // special and unused ids have none
			all[id] = string(text)
		}
	}
	return all
}

func byteLevel(split bool) object {
	return object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": split}
}

// splitter is what cuts a text into the pieces that merges stay within.
func splitter(name string) object {
	pattern := data.Patterns[name]
	if name == "gpt2" || pattern == "" { // the library's own pattern is that of gpt2
		return byteLevel(name == "gpt2")
	}
	return object{"type": "Sequence", "pretokenizers": []object{
		{"type": "Split", "pattern": object{"Regex": pattern}, "behavior": "Isolated", "invert": false},
		byteLevel(false),
	}}
}

// printable writes bytes in the alphabet of byte-level BPE.
func printable(piece string) string {
	out := make([]rune, len(piece))
	for i := range len(piece) {
		out[i] = data.Alphabet[piece[i]]
	}
	return string(out)
}

// merges are the pairs that the pieces of a vocabulary come from, in the order of their ids, which is the order in
// which they merge: each piece is merged from its bytes by the pairs before it until two parts are left.
func merges(pieces []string) (pairs [][2]string) {
	pairs = [][2]string{} // bytes have none, and readers take no null
	rank := make(map[string]int, len(pieces))
	for id, p := range pieces {
		rank[p] = id
	}
	for id, p := range pieces {
		if len(p) < 2 {
			continue
		}
		if parts := merged(p, rank, id); len(parts) == 2 {
			pairs = append(pairs, [2]string{printable(parts[0]), printable(parts[1])})
		}
	}
	return pairs
}

// merged joins the parts of a piece by the pairs of a rank below most.
func merged(piece string, rank map[string]int, most int) []string {
	parts := make([]string, len(piece))
	for i := range parts {
		parts[i] = piece[i : i+1]
	}
	for {
		at, best := -1, most
		for i := range len(parts) - 1 {
			if r, ok := rank[parts[i]+parts[i+1]]; ok && r < best {
				at, best = i, r
			}
		}
		if at < 0 {
			return parts
		}
		parts[at] += parts[at+1]
		parts = slices.Delete(parts, at+1, at+2)
	}
}
