package data

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// chatTokens are special tokens as published vocabularies have them.
const chatTokens = `[{"id": 400, "content": "<|begin_of_text|>", "special": true}, {"id": 401, "content": "<|end_of_text|>", "special": true},
	{"id": 402, "content": "<|eot_id|>", "special": true}, {"id": 403, "content": "<|im_start|>", "special": true},
	{"id": 404, "content": "<|im_end|>", "special": true}]`

// TestSpecialFiles: the tokens that begin and end a text are those that the files beside a tokenizer.json name.
func TestSpecialFiles(t *testing.T) {
	const config, listed, generation, model = "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
		"config.json"
	template := `{"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
		"single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}]}`
	for _, test := range []struct {
		what   string
		files  map[string]string
		post   string
		begin  int32
		ends   []int32
		opened int32 // before a document
		closed bool  // by the end
	}{
		{"nothing is said", nil, "", 0, []int32{0}, 0, false},
		{"a name", map[string]string{config: `{"eos_token": "<|eot_id|>"}`}, "", 402, []int32{402}, 402, false},
		{"an object", map[string]string{config: `{"eos_token": {"content": "<|im_end|>"}, "bos_token": null}`}, "", 404,
			[]int32{404}, 404, false},
		{"both", map[string]string{config: `{"eos_token": "<|im_end|>", "bos_token": "<|begin_of_text|>"}`}, "", 400,
			[]int32{404}, 400, true},
		{"all files", map[string]string{config: `{"eos_token": "<|im_end|>", "bos_token": "<|begin_of_text|>"}`,
			model:      `{"eos_token_id": 403, "bos_token_id": 400}`,
			generation: `{"eos_token_id": [401, 402], "bos_token_id": 400}`}, "", 400, []int32{404, 401, 402}, 400, true},
		{"ids alone", map[string]string{model: `{"eos_token_id": [402, 404], "bos_token_id": 400}`}, "", 400,
			[]int32{402, 404}, 400, true},
		{"an id beyond the vocabulary", map[string]string{config: `{"eos_token": "<|im_end|>"}`,
			model: `{"eos_token_id": 777}`}, "", 404, []int32{404, 777}, 404, false},
		{"generation without ids", map[string]string{generation: `{"eos_token_id": null}`, model: `{"eos_token_id": 402}`},
			"", 402, []int32{402}, 402, false},
		{"the map goes first", map[string]string{config: `{"eos_token": "<|im_end|>"}`,
			listed: `{"eos_token": {"content": "<|eot_id|>"}}`}, "", 402, []int32{402}, 402, false},
		{"the map does not count", map[string]string{config: `{"eos_token": "<|im_end|>", "added_tokens_decoder": {}}`,
			listed: `{"eos_token": "<|eot_id|>"}`},
			"", 404, []int32{404}, 404, false},
		{"no beginning", map[string]string{
			config: `{"eos_token": "<|im_end|>", "bos_token": "<|begin_of_text|>", "add_bos_token": false}`}, "", -1,
			[]int32{404}, 404, false},
		{"a processor", map[string]string{config: `{"eos_token": "<|im_end|>", "bos_token": "<|begin_of_text|>"}`}, template,
			403, []int32{404}, 403, true},
		{"a processor that is overruled",
			map[string]string{config: `{"eos_token": "<|im_end|>", "bos_token": "<|begin_of_text|>", "add_bos_token": true}`},
			template, 400, []int32{404}, 400, true},
	} {
		beside := map[string][]byte{}
		for name, text := range test.files {
			beside[name] = []byte(text)
		}
		sets := map[string]string{"added_tokens": chatTokens, "post_processor": "null"}
		if test.post != "" {
			sets["post_processor"] = test.post
		}
		tok, err := parseTokenizer(edited(t, sets), beside)
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		opened, closed := tok.Document()
		if tok.Begin != test.begin || !slices.Equal(tok.Ends, test.ends) || tok.EndOfText != test.ends[0] ||
			opened != test.opened || closed != test.closed {
			t.Errorf(
				"%s: begins with %d, ends with %v (%d first), documents open with %d and are closed %v; want %d, %v, %d, %v",
				test.what,
				tok.Begin, tok.Ends, tok.EndOfText, opened, closed, test.begin, test.ends, test.opened, test.closed)
		}
		specials := tok.Specials()
		if delete(specials, endOfText); !slices.Equal(slices.Sorted(maps.Values(specials)),
			[]int32{400, 401, 402, 403, 404}) {
			t.Errorf("%s: special tokens %v", test.what, specials)
		}
	}
	for files, want := range map[[2]string]string{
		{config, `{"eos_token": "</eos>"}`}:    "none is called </eos>",
		{config, `{"eos_token": 3}`}:           "the tokenizer_config.json beside it: a token must be a text",
		{config, `{"bos_token": "<s>"}`}:       "a text begins with <s>, which is no token",
		{config, `{"add_bos_token": true}`}:    "add_bos_token is true, but no bos_token",
		{model, `{"eos_token_id": "x"}`}:       "the config.json beside it: a token id must be",
		{generation, `{"eos_token_id": [-1]}`}: "eos_token_id -1",
	} {
		_, err := parseTokenizer(edited(t, map[string]string{"added_tokens": chatTokens, "post_processor": "null"}),
			map[string][]byte{files[0]: []byte(files[1])})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want %s", files, err, want)
		}
	}
}

// TestDocumentsAreClosed: where another token than the end begins a document, the end comes behind it, once, whatever
// blocks the text is read in and whatever file it comes from.
func TestDocumentsAreClosed(t *testing.T) {
	long := strings.Repeat("the end of the text ", 200_000) // some blocks
	dir := write(t, map[string]string{
		"t.json":                string(edited(t, map[string]string{"added_tokens": chatTokens, "post_processor": "null"})),
		"tokenizer_config.json": `{"eos_token": "<|im_end|>", "bos_token": "<|begin_of_text|>"}`,
		"in/a.txt":              long, "in/b.jsonl": "{\"text\": \"one\"}\n{\"text\": \"two\"}\n{\"text\": \"one\"}\n",
		"in/c.txt": "x",
	})
	for _, dedup := range []bool{false, true} {
		out := t.TempDir()
		if _, err := Prepare(context.Background(), Options{Tokenizer: dir + "/t.json", Out: out, Name: "x",
			Inputs: []string{dir + "/in"}, ShardTokens: 1 << 24, Dedup: dedup}); err != nil {
			t.Fatal(err)
		}
		const begin, end = "<|begin_of_text|>", "<|im_end|>"
		want := begin + long + end + begin + "one" + end + begin + "two" + end
		if !dedup {
			want += begin + "one" + end
		}
		if got := all(t, out); got != want+begin+"x"+end {
			t.Errorf("dedup %v: %d bytes, begins %.60q, ends %.120q", dedup, len(got), got, got[max(0, len(got)-120):])
		}
	}
}

// TestShardsAgree: meta.json says what documents begin and end with, and a tokenizer whose files say otherwise since is
// told apart.
func TestShardsAgree(t *testing.T) {
	dir := write(t, map[string]string{
		"t.json": string(edited(t, map[string]string{"added_tokens": chatTokens, "post_processor": "null"})),
		"a.txt":  "the end"})
	tokenizer := func(config string) *Tokenizer {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), []byte(config), 0o666); err != nil {
			t.Fatal(err)
		}
		tok, err := NewTokenizer(filepath.Join(dir, "t.json"))
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	configs := []string{`{}`, `{"eos_token": "<|im_end|>"}`,
		`{"eos_token": "<|im_end|>", "bos_token": "<|begin_of_text|>"}`}
	for i, config := range configs {
		made, out := tokenizer(config), t.TempDir()
		if _, err := Prepare(context.Background(), Options{Tokenizer: made.Name, Out: out, Name: "x",
			Inputs: []string{dir + "/a.txt"}, ShardTokens: 100}); err != nil {
			t.Fatal(err)
		}
		tokens, err := Open(out, OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer tokens.Close()
		for j, other := range configs {
			if err := tokenizer(other).Agrees(tokens.Meta); (err == nil) != (i == j) {
				t.Errorf("made with %s, read with %s: %v", config, other, err)
			}
		}
	}
}
