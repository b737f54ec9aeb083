package export

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"headroom/data"
)

// edit changes keys of a JSON file; a nil value takes one out.
func edit(t testing.TB, path string, set object) {
	t.Helper()
	whole := object{}
	if text, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(text, &whole); err != nil {
			t.Fatal(err)
		}
	}
	for key, value := range set {
		if whole[key] = value; value == nil {
			delete(whole, key)
		}
	}
	if err := writeJSON(path, whole); err != nil {
		t.Fatal(err)
	}
}

// chatty makes an export of bytes one with the special tokens of a chat model, ids 257 to 259: beginning, end and turn.
func chatty(t testing.TB, dir string) {
	t.Helper()
	added := []object{}
	for i, name := range []string{"<|begin|>", "<|end|>", "<|turn|>"} {
		added = append(added, object{"id": 257 + i, "content": name, "special": true})
	}
	edit(t, filepath.Join(dir, "tokenizer.json"), object{"added_tokens": added, "post_processor": nil})
	for _, name := range []string{"tokenizer_config.json", "generation_config.json"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	edit(t, filepath.Join(dir, "config.json"), object{"bos_token_id": nil, "eos_token_id": nil, "pad_token_id": nil})
}

// TestImportKeepsSpecialTokens: wherever a directory names the tokens that begin and end a text, the checkpoint has them.
func TestImportKeepsSpecialTokens(t *testing.T) {
	checkpoint, _ := tiny(t, "gqa-2")
	for _, test := range []struct {
		what  string
		files map[string]object
		begin int32
		ends  []int32
	}{
		{"tokenizer_config.json", map[string]object{"tokenizer_config.json": {"eos_token": "<|turn|>"}}, 259, []int32{259}},
		{"special_tokens_map.json", map[string]object{"special_tokens_map.json": {"eos_token": object{"content": "<|turn|>"}, "bos_token": "<|begin|>"}}, 257, []int32{259}},
		{"config.json", map[string]object{"config.json": {"eos_token_id": 259, "bos_token_id": 257}}, 257, []int32{259}},
		{"generation_config.json", map[string]object{"generation_config.json": {"eos_token_id": []int{258, 259}}, "config.json": {"eos_token_id": 5}}, 258, []int32{258, 259}},
		{"all", map[string]object{"tokenizer_config.json": {"eos_token": "<|turn|>", "bos_token": "<|begin|>"},
			"generation_config.json": {"eos_token_id": []int{258}}, "config.json": {"eos_token_id": 5}}, 257, []int32{259, 258}},
		{"a processor without a token", map[string]object{"tokenizer_config.json": {"eos_token": "<|turn|>", "bos_token": "<|begin|>"},
			"tokenizer.json": {"post_processor": byteLevel(true)}}, -1, []int32{259}},
	} {
		dir := filepath.Join(t.TempDir(), "hf")
		if _, err := HF(checkpoint, Options{Dir: dir, DType: "fp32", ShardBytes: 1 << 30, Tokenizer: "bytes"}); err != nil {
			t.Fatal(err)
		}
		chatty(t, dir)
		for name, set := range test.files {
			edit(t, filepath.Join(dir, name), set)
		}
		checkSpecial(t, test.what, dir, test.begin, test.ends)
	}
}

func checkSpecial(t *testing.T, what, dir string, begin int32, ends []int32) {
	t.Helper()
	r, err := Read(dir, filepath.Join(t.TempDir(), "back"), 0)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	tok, err := data.NewTokenizer(r.Tokenizer)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if tok.Begin != begin || !slices.Equal(tok.Ends, ends) {
		t.Errorf("%s: texts begin with %d and end with %v, want %d and %v", what, tok.Begin, tok.Ends, begin, ends)
	}
	want, _ := os.ReadFile(filepath.Join(dir, tokenizerFile))
	if got, err := os.ReadFile(r.Tokenizer); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: the tokenizer's file changed on its way (%v)", what, err)
	}
}

// TestImportCases: directories whose end token was once guessed.
func TestImportCases(t *testing.T) {
	root := filepath.Join("..", "..", "shared", "cases", "import")
	if _, err := os.Stat(root); err != nil {
		t.Skip("the directories are not here: ", err)
	}
	checkSpecial(t, "eos_im", filepath.Join(root, "eos_im"), 1200, []int32{1204, 1201, 1202})
	checkSpecial(t, "eosn_tokenizer_config", filepath.Join(root, "eosn_tokenizer_config"), 1202, []int32{1202})
	checkSpecial(t, "eos_unusual", filepath.Join(root, "eos_unusual"), 1200, []int32{1200, 1202})
}
