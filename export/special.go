package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"headroom/data"
)

// passTokenizer writes a tokenizer.json with one change: its post-processor puts the token before a text that texts
// begin with here.
func passTokenizer(dir, path string, t *data.Tokenizer) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	leading, err := data.Leading(text)
	if err != nil {
		return fmt.Errorf("export: %s: %w", path, err)
	}
	begin := nameOf(t, t.Begin)
	if leading != begin {
		var whole map[string]json.RawMessage // other keys are written as they were
		if err := json.Unmarshal(text, &whole); err != nil {
			return fmt.Errorf("export: %s: %w", path, err)
		}
		if whole["post_processor"], err = processor(whole["post_processor"], leading, begin, t.Begin); err != nil {
			return fmt.Errorf("export: %s: %w", path, err)
		}
		if text, err = json.Marshal(whole); err != nil {
			return fmt.Errorf("export: %s: %w", path, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, tokenizerFile), text, 0o644); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// processor is a post-processor that puts the token begin before a text, and keeps of the old one what puts none there.
func processor(old json.RawMessage, leading, begin string, id int32) (json.RawMessage, error) {
	switch {
	case begin == "":
		return json.RawMessage("null"), nil
	case leading != "" || len(old) == 0 || string(old) == "null":
		return json.Marshal(data.BeginProcessor(begin, id))
	}
	return json.Marshal(object{"type": "Sequence", "processors": []any{old, data.BeginProcessor(begin, id)}})
}

// nameOf is how a tokenizer calls a special token; empty for none.
func nameOf(t *data.Tokenizer, id int32) string {
	if id < 0 {
		return ""
	}
	name, err := t.Decode([]int32{id})
	if err != nil {
		return ""
	}
	return string(name)
}

// writeTokenizerConfig writes tokenizer_config.json: what the one at from says, if there is one, with the special
// tokens as they are here.
func writeTokenizerConfig(dir, from string, t *data.Tokenizer, context int) error {
	config := object{}
	text, err := os.ReadFile(from)
	switch {
	case from == "", errors.Is(err, fs.ErrNotExist):
		if from == "" {
			config["headroom"] = t.Name
		}
	case err != nil:
		return fmt.Errorf("export: %w", err)
	default:
		if err := json.Unmarshal(text, &config); err != nil {
			return fmt.Errorf("export: %s: %w", from, err)
		}
		for _, key := range []string{"auto_map", "headroom", "add_eos_token"} {
			delete(config, key)
		}
	}
	end := nameOf(t, t.EndOfText)
	config["tokenizer_class"], config["padding_side"], config["model_max_length"] = "PreTrainedTokenizerFast", "left",
		context
	config["clean_up_tokenization_spaces"] = false
	config["eos_token"], config["add_bos_token"] = end, t.Begin >= 0
	if t.Begin >= 0 {
		config["bos_token"] = nameOf(t, t.Begin)
	}
	if config["pad_token"] == nil {
		config["pad_token"] = end
	}
	return writeJSON(filepath.Join(dir, "tokenizer_config.json"), config)
}

// tokenIDs are the ids that config.json and generation_config.json hold; a tokenizer of nil has none.
func tokenIDs(t *data.Tokenizer) object {
	if t == nil {
		return object{}
	}
	ids := object{"eos_token_id": t.EndOfText, "pad_token_id": t.EndOfText}
	if len(t.Ends) > 1 {
		ids["eos_token_id"] = t.Ends
	}
	if t.Begin >= 0 {
		ids["bos_token_id"] = t.Begin
	}
	return ids
}

// shortTexts are the texts besides a long one whose tokens are compared.
var shortTexts = []string{"a", "Once upon a time", " two  spaces\n\n\tand a tab", "déjà vu, 12 ½ 一 🙂"}

// special compares an export's tokenizer, and the special tokens that its files name, with the checkpoint's. Where
// either has no tokenizer, the request has no texts.
func (v *Verdict) special(f *folder, q *request) error {
	if _, err := f.root.Stat(tokenizerFile); errors.Is(err, fs.ErrNotExist) {
		q.Texts, q.TextTokens = nil, nil
	}
	if v.Texts = len(q.Texts); v.Texts == 0 {
		return nil
	}
	theirs, err := data.OpenTokenizer(f.root.FS(), tokenizerFile)
	if err != nil {
		return fmt.Errorf("export: %s: tokenizer: %w", f.dir, err)
	}
	text, err := f.read(tokenizerFile)
	if err != nil {
		return err
	}
	leading, err := data.Leading(text) // what the library puts before a text, whatever our reader would
	if err != nil {
		return fmt.Errorf("export: %s: %w", f.dir, err)
	}
	begin := []int32{}
	if leading != "" {
		begin = append(begin, theirs.Specials()[leading])
	}
	for i, text := range q.Texts {
		got := theirs.Append(slices.Clone(begin), []byte(text))
		v.fail(!slices.Equal(got, q.TextTokens[i]), "%.20q has the tokens %v, with the checkpoint %v", text,
			got[:min(5, len(got))], q.TextTokens[i][:min(5, len(q.TextTokens[i]))])
	}
	v.fail(theirs.EndOfText != q.Ends[0], "the tokenizer ends a text with token %d, the checkpoint with %d",
		theirs.EndOfText, q.Ends[0])
	for _, name := range []string{"config.json", "generation_config.json"} {
		var said data.TokenIDs
		if err := f.json(name, &said); err != nil {
			return err
		}
		slices.Sort(said.EOS)
		v.fail(!slices.Equal(said.EOS, slices.Sorted(slices.Values(q.Ends))),
			"%s ends a text with %v, the checkpoint with %v", name, said.EOS, q.Ends)
		v.fail(q.Begin >= 0 && !slices.Equal(said.BOS, []int32{q.Begin}),
			"%s does not begin a text with token %d, as the checkpoint does", name, q.Begin)
	}
	return nil
}
