package export

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"headroom/data"
	"headroom/decode"
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
		added = append(added, object{"id": 257 + i, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
			"normalized": false, "special": true})
	}
	edit(t, filepath.Join(dir, "tokenizer.json"), object{"added_tokens": added, "post_processor": nil})
	for _, name := range []string{"tokenizer_config.json", "generation_config.json"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	edit(t, filepath.Join(dir, "config.json"), object{"bos_token_id": nil, "eos_token_id": nil, "pad_token_id": nil})
}

// TestImportKeepsSpecialTokens: wherever a directory names the tokens that begin and end a text, the checkpoint has
// them.
func TestImportKeepsSpecialTokens(t *testing.T) {
	checkpoint, _ := tiny(t, "gqa-2")
	for _, test := range []struct {
		what  string
		files map[string]object
		begin int32
		ends  []int32
	}{
		{"tokenizer_config.json", map[string]object{"tokenizer_config.json": {"eos_token": "<|turn|>"}}, 259, []int32{259}},
		{"special_tokens_map.json", map[string]object{"special_tokens_map.json": {"eos_token": object{"content": "<|turn|>"},
			"bos_token": "<|begin|>"}}, 257, []int32{259}},
		{"config.json", map[string]object{"config.json": {"eos_token_id": 259, "bos_token_id": 257}}, 257, []int32{259}},
		{"generation_config.json", map[string]object{"generation_config.json": {"eos_token_id": []int{258, 259}},
			"config.json": {"eos_token_id": 5}}, 258, []int32{258, 259}},
		{"all", map[string]object{"tokenizer_config.json": {"eos_token": "<|turn|>", "bos_token": "<|begin|>"},
			"generation_config.json": {"eos_token_id": []int{258}}, "config.json": {"eos_token_id": 5}}, 257, []int32{259, 258}},
		{"a processor without a token",
			map[string]object{"tokenizer_config.json": {"eos_token": "<|turn|>", "bos_token": "<|begin|>"},
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

// TestExportKeepsSpecialTokens: what a directory says of special tokens is said by the export of what was imported from
// it, verify holds the two against each other, and an import of the export says it again.
func TestExportKeepsSpecialTokens(t *testing.T) {
	checkpoint, _ := tiny(t, "gqa-2")
	for _, test := range []struct {
		what  string
		files map[string]object
		begin int32
		ends  []int32
	}{
		{"one end", map[string]object{"tokenizer_config.json": {"eos_token": "<|turn|>"}}, 259, []int32{259}},
		{"three ends and a beginning",
			map[string]object{"tokenizer_config.json": {"eos_token": "<|turn|>", "bos_token": "<|begin|>",
				"chat_template": "kept"},
				"generation_config.json": {"eos_token_id": []int{258, 256}}}, 257, []int32{259, 258, 256}},
		{"nothing begins a text", map[string]object{
			"tokenizer_config.json": {"eos_token": "<|turn|>", "bos_token": "<|begin|>"},
			"tokenizer.json":        {"post_processor": byteLevel(true)}}, -1, []int32{259}},
		{"a processor that is overruled",
			map[string]object{"tokenizer_config.json": {"eos_token": "<|turn|>", "bos_token": "<|begin|>",
				"add_bos_token": true},
				"tokenizer.json": {"post_processor": data.BeginProcessor("<|end|>", 258)}}, 257, []int32{259}},
		{"a beginning behind another processor",
			map[string]object{"tokenizer_config.json": {"eos_token": "<|turn|>", "bos_token": "<|begin|>",
				"add_bos_token": true},
				"tokenizer.json": {"post_processor": byteLevel(true)}}, 257, []int32{259}},
	} {
		dir := filepath.Join(t.TempDir(), "hf")
		if _, err := HF(checkpoint, Options{Dir: dir, DType: "fp32", ShardBytes: 1 << 30, Tokenizer: "bytes"}); err != nil {
			t.Fatal(err)
		}
		chatty(t, dir)
		for name, set := range test.files {
			edit(t, filepath.Join(dir, name), set)
		}
		back := filepath.Join(t.TempDir(), "back")
		if _, err := Read(dir, back, 0); err != nil {
			t.Fatalf("%s: %v", test.what, err)
		}
		again := exported(t, back)
		checkSpecial(t, test.what, again, test.begin, test.ends)
		if m, err := decode.Load(back); err != nil {
			t.Fatal(err)
		} else if v, err := Verify(context.Background(), again, m, "there-is-no-such-python", false); err != nil ||
			len(v.Failed) > 0 || v.Texts < 3 {
			t.Errorf("%s: %+v, %v", test.what, v, err)
		}
		var c struct {
			Template any    `json:"chat_template"`
			EOS      string `json:"eos_token"`
		}
		text, err := os.ReadFile(filepath.Join(again, "tokenizer_config.json"))
		if err == nil {
			err = json.Unmarshal(text, &c)
		}
		if want := test.files["tokenizer_config.json"]; err != nil || c.EOS != want["eos_token"] ||
			c.Template != want["chat_template"] {
			t.Errorf("%s: %+v, %v", test.what, c, err)
		}
	}
}

// exported exports a checkpoint with its tokenizer.
func exported(t *testing.T, checkpoint string) (dir string) {
	t.Helper()
	m, err := decode.Load(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "again")
	if _, err := HF(checkpoint, Options{Dir: dir, DType: "fp32", ShardBytes: 1 << 30,
		Tokenizer: m.Tokenizer}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// trainedTokenizer trains a tokenizer; one of older writes puts nothing before a text.
func trainedTokenizer(t *testing.T, pattern string, older bool) string {
	t.Helper()
	dir := t.TempDir()
	text, path := filepath.Join(dir, "a.txt"), filepath.Join(dir, "tokenizer.json")
	if err := os.WriteFile(text, []byte("the end of the text, the end"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := data.TrainTokenizer(context.Background(), data.TrainOptions{Inputs: []string{text}, Vocab: 260,
		Pattern: pattern, Out: path}); err != nil {
		t.Fatal(err)
	}
	if older {
		edit(t, path, object{"post_processor": json.RawMessage("null")})
	}
	return path
}

// TestVerifyHoldsTokens: a trained tokenizer's export begins a text with end-of-text, whenever it was trained, and
// verify names each file that says otherwise.
func TestVerifyHoldsTokens(t *testing.T) {
	for _, older := range []bool{false, true} {
		checkpoint, m := tiny(t, "gqa-2")
		m.Tokenizer = trainedTokenizer(t, "cl100k", older)
		dir := filepath.Join(t.TempDir(), "hf")
		if _, err := HF(checkpoint, Options{Dir: dir, DType: "fp32", ShardBytes: 1 << 30,
			Tokenizer: m.Tokenizer}); err != nil {
			t.Fatal(err)
		}
		verify := func(want string) {
			t.Helper()
			v, err := Verify(context.Background(), dir, m, "there-is-no-such-python", false)
			if failed := strings.Join(v.Failed, "; "); err != nil || (want == "") != (failed == "") ||
				!strings.Contains(failed, want) {
				t.Errorf("older %v: verify says %q, want %q (%v)", older, failed, want, err)
			}
		}
		verify("")
		for _, c := range []struct {
			file string
			set  object
			want string
		}{
			{"tokenizer.json", object{"post_processor": json.RawMessage("null")}, `"a" has the tokens`},
			{"tokenizer.json", object{"normalizer": object{"type": "NFD"}}, `has the tokens`},
			{"generation_config.json", object{"eos_token_id": 5}, "generation_config.json ends a text with [5]"},
			{"generation_config.json", object{"eos_token_id": []int{0, 5}}, "generation_config.json ends a text with [0 5]"},
			{"generation_config.json", object{"bos_token_id": nil}, "generation_config.json does not begin a text with token 0"},
			{"config.json", object{"eos_token_id": nil}, "config.json ends a text with []"},
			{"tokenizer_config.json", object{"eos_token": "the"}, "the tokenizer ends a text with token"},
		} {
			path := filepath.Join(dir, c.file)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			edit(t, path, c.set)
			verify(c.want)
			if err := os.WriteFile(path, before, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}
