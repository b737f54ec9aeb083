package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"headroom/data"
)

// tokenizerFile is the name of the library's tokenizer files.
const tokenizerFile = "tokenizer.json"

// tokenizer names the tokenizer of a directory: one of ours that the directory was written with and whose special
// tokens it still has, else its tokenizer.json, else nothing.
func (f *folder) tokenizer() string {
	if _, err := f.root.Stat(tokenizerFile); errors.Is(err, os.ErrNotExist) {
		return ""
	}
	var c struct {
		Headroom string `json:"headroom"`
	}
	if err := f.json("tokenizer_config.json", &c); err != nil || !slices.Contains(data.TokenizerNames(), c.Headroom) {
		return tokenizerFile
	}
	ours, err := data.NewTokenizer(c.Headroom)
	if err != nil {
		return tokenizerFile
	}
	if theirs, err := data.OpenTokenizer(f.root.FS(), tokenizerFile); err == nil && !sameSpecial(ours, theirs) {
		return tokenizerFile
	}
	return c.Headroom
}

// sameSpecial says that two tokenizers begin and end a text alike.
func sameSpecial(a, b *data.Tokenizer) bool {
	return a.EndOfText == b.EndOfText && a.Begin == b.Begin && slices.Equal(slices.Sorted(slices.Values(a.Ends)),
		slices.Sorted(slices.Values(b.Ends)))
}

// copyTokenizer copies a directory's tokenizer with what it says of special tokens to a checkpoint, and returns whether
// it can be read here.
func (f *folder) copyTokenizer(to string) (ok bool, err error) {
	text, err := f.read(tokenizerFile)
	if err != nil {
		return false, err
	}
	var whole struct {
		PostProcessor json.RawMessage `json:"post_processor"`
	}
	if err := json.Unmarshal(text, &whole); err != nil {
		return false, fmt.Errorf("export: %s: %s: %w", f.dir, tokenizerFile, err)
	}
	files := map[string]object{}
	for _, name := range data.SpecialFiles() {
		if _, err := f.root.Stat(name); errors.Is(err, os.ErrNotExist) {
			continue
		}
		var c object
		if err := f.json(name, &c); err != nil {
			return false, err
		}
		files[name] = c
	}
	config, generation := files["tokenizer_config.json"], files["generation_config.json"]
	if config == nil {
		config = object{}
	}
	// A processor of the source that puts nothing before a text says that texts begin with nothing.
	if _, said := config["add_bos_token"]; !said && len(whole.PostProcessor) > 0 && string(whole.PostProcessor) != "null" {
		leading, err := data.Leading(text)
		if err != nil {
			return false, fmt.Errorf("export: %s: %s: %w", f.dir, tokenizerFile, err)
		}
		if leading == "" {
			config["add_bos_token"] = false
		}
	}
	if generation == nil {
		generation = object{}
	}
	for _, key := range []string{"bos_token_id", "eos_token_id"} { // those of config.json count where these say nothing
		if v, ok := files["config.json"][key]; ok && empty(generation[key]) {
			generation[key] = v
		}
	}
	err = errors.Join(os.WriteFile(filepath.Join(to, tokenizerFile), text, 0o666),
		writeJSON(filepath.Join(to, "tokenizer_config.json"), config),
		writeJSON(filepath.Join(to, "generation_config.json"), generation))
	if c, ok := files["special_tokens_map.json"]; ok {
		err = errors.Join(err, writeJSON(filepath.Join(to, "special_tokens_map.json"), c))
	}
	if err != nil {
		return false, err
	}
	if _, err := data.NewTokenizer(filepath.Join(to, tokenizerFile)); err != nil {
		slog.Warn("the tokenizer cannot be read here: name another with --tokenizer", "why", err)
		return false, nil
	}
	return true, nil
}

// empty says that a JSON value is not there, null, or an empty list.
func empty(v any) bool {
	list, isList := v.([]any)
	return v == nil || isList && len(list) == 0
}

// name says what the tokenizer's texts begin and end with.
func (r *Import) name() error {
	t, err := data.NewTokenizer(r.Tokenizer)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	r.Begin = nameOf(t, t.Begin)
	for _, end := range t.Ends {
		name := nameOf(t, end)
		if name == "" {
			name = fmt.Sprintf("token %d", end)
		}
		r.Ends = append(r.Ends, name)
	}
	return nil
}
