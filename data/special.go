package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// specialFiles are the files beside a tokenizer.json that name its special tokens.
var specialFiles = []string{"tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "config.json"}

// SpecialFiles lists the files beside a tokenizer.json that say which tokens begin and end a text.
func SpecialFiles() []string { return slices.Clone(specialFiles) }

// readBeside reads the special files of a folder that are there. Those of the model count only beside a tokenizer that
// has the library's name for it: config.json may be anybody's.
func readBeside(folder fs.FS, tokenizer string) (map[string][]byte, error) {
	beside := map[string][]byte{}
	for _, name := range specialFiles {
		if tokenizer != "tokenizer.json" && strings.HasSuffix(name, "config.json") && name != "tokenizer_config.json" {
			continue
		}
		text, err := fs.ReadFile(folder, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		beside[name] = text
	}
	return beside, nil
}

// tokenNames is what tokenizer_config.json and special_tokens_map.json say.
type tokenNames struct {
	BOS      tokenName       `json:"bos_token"`
	EOS      tokenName       `json:"eos_token"`
	AddBOS   *bool           `json:"add_bos_token"`
	Decoders json.RawMessage `json:"added_tokens_decoder"`
}

// A tokenName is a token's text, or an object with it; null is none.
type tokenName string

func (n *tokenName) UnmarshalJSON(text []byte) error {
	var name *string
	var object struct{ Content string }
	switch {
	case json.Unmarshal(text, &name) == nil && name != nil:
		*n = tokenName(*name)
	case json.Unmarshal(text, &object) == nil:
		*n = tokenName(object.Content)
	default:
		return fmt.Errorf("a token must be a text or an object with its content, not %.40s", text)
	}
	return nil
}

// TokenIDs is what config.json and generation_config.json say.
type TokenIDs struct {
	BOS IDList `json:"bos_token_id"`
	EOS IDList `json:"eos_token_id"`
}

// An IDList is a token id or a list of them; null is none.
type IDList []int32

// UnmarshalJSON reads either form.
func (l *IDList) UnmarshalJSON(text []byte) error {
	var one *int32
	if json.Unmarshal(text, &one) == nil {
		if *l = nil; one != nil {
			*l = IDList{*one}
		}
		return nil
	}
	var many []int32
	if err := json.Unmarshal(text, &many); err != nil {
		return fmt.Errorf("a token id must be a whole number or a list of them, not %.40s", text)
	}
	*l = many
	return nil
}

// usualEnds are how published vocabularies call the token between documents.
var usualEnds = []string{endOfText, "<|end_of_text|>", "<|begin_of_text|>", "</s>", "<eos>",
	"<｜end▁of▁sentence｜>", "<|im_end|>"}

// setSpecial finds the tokens that begin and end a text, in the order in which the transformers library looks for them.
// The names of tokenizer_config.json count, those of special_tokens_map.json before them where the former has no
// added_tokens_decoder. The ids of generation_config.json end a text too; where it has none, those of config.json do.
func (t *Tokenizer) setSpecial(f *hfTokenizer, beside map[string][]byte) error {
	var names, listed tokenNames
	var generation, config TokenIDs
	for name, into := range map[string]any{
		"tokenizer_config.json": &names, "special_tokens_map.json": &listed, "generation_config.json": &generation,
		"config.json": &config,
	} {
		if text := beside[name]; len(text) > 0 {
			if err := json.Unmarshal(text, into); err != nil {
				return fmt.Errorf("the %s beside it: %w", name, err)
			}
		}
	}
	if names.Decoders == nil {
		names.BOS, names.EOS = firstName(listed.BOS, names.BOS), firstName(listed.EOS, names.EOS)
	}
	ends := config.EOS
	if len(generation.EOS) > 0 {
		ends = generation.EOS
	}
	begins := append(slices.Clone(generation.BOS), config.BOS...)
	if err := t.setEnds(f, names.EOS, ends); err != nil {
		return err
	}
	return t.setBegin(f, names, begins)
}

func firstName(names ...tokenName) tokenName {
	for _, name := range names {
		if name != "" {
			return name
		}
	}
	return ""
}

// setEnds keeps the named end, else the first of the ids, else a usual name; all of the ids end a text beside it.
func (t *Tokenizer) setEnds(f *hfTokenizer, name tokenName, ids []int32) error {
	end, found := f.find(string(name))
	if name == "" {
		for _, id := range ids {
			if found = t.hasPiece(id); found {
				end = id
				break
			}
		}
		for i := 0; i < len(usualEnds) && !found; i++ {
			end, found = f.find(usualEnds[i])
		}
	}
	if !found {
		wanted := strings.Join(usualEnds, ", ")
		if name != "" {
			wanted = string(name)
		}
		return fmt.Errorf(
			"no token ends a text: none is called %s; name one as eos_token in a tokenizer_config.json beside it", wanted)
	}
	t.EndOfText, t.Ends = end, []int32{end}
	for _, id := range ids {
		if id < 0 || id >= maxVocab {
			return fmt.Errorf("eos_token_id %d in the files beside it: must be from 0 to %d", id, maxVocab-1)
		}
		if !slices.Contains(t.Ends, id) {
			t.Ends = append(t.Ends, id)
		}
	}
	return nil
}

// setBegin finds the token that a text begins with. What the files say outright counts: add_bos_token, then a
// post-processor that puts a token before a text. Where they say nothing, a text begins with the token that is called
// its beginning, or that ends the text before it.
func (t *Tokenizer) setBegin(f *hfTokenizer, names tokenNames, ids []int32) error {
	leading, err := f.PostProcessor.leading()
	if err != nil {
		return err
	}
	switch {
	case names.AddBOS != nil && !*names.AddBOS:
		t.Begin = -1
		return nil
	case names.AddBOS != nil && names.BOS == "":
		return errors.New("add_bos_token is true, but no bos_token is named beside it")
	case names.AddBOS == nil && leading != "":
		names.BOS = tokenName(leading)
	}
	if names.BOS != "" {
		id, ok := f.find(string(names.BOS))
		if !ok {
			return fmt.Errorf("a text begins with %s, which is no token of it", names.BOS)
		}
		t.Begin = id
		return nil
	}
	t.Begin = t.EndOfText
	if len(ids) > 0 && t.hasPiece(ids[0]) {
		t.Begin = ids[0]
	}
	return nil
}

func (t *Tokenizer) hasPiece(id int32) bool {
	table := t.pieces()
	return 0 <= id && int(id) < len(table) && table[id] != nil
}

// find is the id of a token by its text; an added one goes before one of the vocabulary.
func (f *hfTokenizer) find(name string) (int32, bool) {
	for _, a := range f.Added {
		if a.Content == name {
			return a.ID, true
		}
	}
	id, ok := f.Model.Vocab[name]
	return id, ok
}

// An hfProcessor says what is put around the ids of a text.
type hfProcessor struct {
	Type       string        `json:"type"`
	Processors []hfProcessor `json:"processors"`
	Single     []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		}
	} `json:"single"`
}

// leading is the token that is put before a text; empty where none is.
func (p *hfProcessor) leading() (name string, err error) {
	if p == nil {
		return "", nil
	}
	for _, q := range p.Processors {
		if name == "" {
			if name, err = q.leading(); err != nil {
				return "", err
			}
		}
	}
	for i, part := range p.Single {
		switch {
		case part.SpecialToken == nil:
			return name, nil
		case i > 0:
			return "", fmt.Errorf("its post_processor puts %s and %s before a text: at most one token is read", name,
				part.SpecialToken.ID)
		}
		name = part.SpecialToken.ID
	}
	return name, nil
}

// Pattern is the name in Patterns of what cuts a text into pre-tokens, empty where each byte is a token. It is an error
// where more is done to a text.
func (t *Tokenizer) Pattern() (string, error) {
	switch {
	case t.normalize != nil:
		return "", errors.New("it normalizes texts")
	case t.prefixSpace:
		return "", errors.New("it puts a space before a text")
	case t.merge != nil && t.split == nil:
		return "", fmt.Errorf("it cuts texts by another pattern than %s",
			strings.Join(slices.Sorted(maps.Keys(Patterns)), ", "))
	}
	return t.pattern, nil
}

// Leading is the token that the post-processor of a tokenizer.json puts before a text; empty where it puts none.
func Leading(text []byte) (string, error) {
	var f hfTokenizer
	if err := json.Unmarshal(text, &f); err != nil {
		return "", fmt.Errorf("no tokenizer.json: %w", err)
	}
	return f.PostProcessor.leading()
}

// BeginProcessor is the post-processor of a tokenizer.json that puts one token before each text.
func BeginProcessor(name string, id int32) map[string]any {
	type object = map[string]any
	token := func(segment int) object { return object{"SpecialToken": object{"id": name, "type_id": segment}} }
	text := func(of string, segment int) object { return object{"Sequence": object{"id": of, "type_id": segment}} }
	return object{
		"type":           "TemplateProcessing",
		"single":         []object{token(0), text("A", 0)},
		"pair":           []object{token(0), text("A", 0), token(1), text("B", 1)},
		"special_tokens": object{name: object{"id": name, "ids": []int32{id}, "tokens": []string{name}}},
	}
}

// BeginText appends what a text begins with: the token Begin, or nothing.
func (t *Tokenizer) BeginText(ids []int32) []int32 {
	if t.Begin < 0 {
		return ids
	}
	return append(ids, t.Begin)
}

// Prompt returns the ids of a text that is to be gone on from: what a text begins with, and the text, in which the
// words of a special token are that token.
func (t *Tokenizer) Prompt(text []byte) []int32 {
	var special []hfAdded
	for name, id := range t.Specials() {
		special = append(special, hfAdded{ID: id, Content: name})
	}
	slices.SortFunc(special, func(a, b hfAdded) int { return len(b.Content) - len(a.Content) })
	ids := t.BeginText(nil)
	cutAdded(special, text, func(text []byte) { ids = t.Append(ids, text) }, func(id int32) { ids = append(ids, id) })
	return ids
}

// Document is the token before each document of a shard, and whether EndOfText comes behind it: where the token before
// it is another.
func (t *Tokenizer) Document() (open int32, closed bool) {
	if t.Begin < 0 || t.Begin == t.EndOfText {
		return t.EndOfText, false
	}
	return t.Begin, true
}

// Agrees says what is wrong where the documents of shards begin or end with other tokens than the tokenizer's do now:
// its files may have changed since, or have been read otherwise by an older version.
func (t *Tokenizer) Agrees(m *Meta) error {
	open, _ := t.Document()
	begin := m.Begins()
	if open == begin && t.EndOfText == m.EndOfText {
		return nil
	}
	return fmt.Errorf("documents of the shards begin with token %d and end with %d, those of tokenizer %s with %d and "+
		"%d: prepare them again",
		begin, m.EndOfText, t.Name, open, t.EndOfText)
}

// Specials are the special tokens by their text. Nothing in a text becomes one of them by Append.
func (t *Tokenizer) Specials() map[string]int32 {
	all := map[string]int32{t.EndName(): t.EndOfText}
	for name, id := range t.special {
		all[name] = id
	}
	if t.Begin >= 0 && t.Begin != t.EndOfText {
		all[string(t.pieces()[t.Begin])] = t.Begin
	}
	delete(all, "")
	return all
}
