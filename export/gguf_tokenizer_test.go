package export

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"headroom/data"
)

// ggufOf writes a GGUF file and reads its keys.
func ggufOf(t *testing.T, o Options) map[string]any {
	t.Helper()
	checkpoint, _ := tiny(t, "gqa-2")
	o.Dir, o.DType = filepath.Join(t.TempDir(), "m.gguf"), "fp32"
	if _, err := GGUF(checkpoint, o); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	g := &ggufReader{b: text, at: 16}
	values := map[string]any{}
	for range int(g.u64()) {
		name := g.text()
		values[name] = g.value(g.u32())
	}
	return values
}

// TestGGUFTrainedTokenizer: merging by the file's tokens and merges, as llama.cpp does, gives the ids of the tokenizer.
func TestGGUFTrainedTokenizer(t *testing.T) {
	for pattern, pre := range map[string]string{"gpt2": "gpt-2", "cl100k": "dbrx", "qwen2": "qwen2", "o200k": "gpt-4o"} {
		path := trainedTokenizer(t, pattern, false)
		keys := ggufOf(t, Options{Tokenizer: path})
		if keys["tokenizer.ggml.model"] != "gpt2" || keys["tokenizer.ggml.pre"] != pre ||
			keys["tokenizer.ggml.add_bos_token"] != true ||
			keys["tokenizer.ggml.bos_token_id"] != uint32(0) || keys["tokenizer.ggml.eos_token_id"] != uint32(0) {
			t.Errorf("%s: %v", pattern, keys)
		}
		tok, err := data.NewTokenizer(path)
		if err != nil {
			t.Fatal(err)
		}
		ids, types := map[string]int32{}, keys["tokenizer.ggml.token_type"].([]any)
		for id, token := range keys["tokenizer.ggml.tokens"].([]any) {
			ids[token.(string)] = int32(id)
		}
		if len(types) != 260 || types[0] != uint32(controlToken) || types[5] != uint32(normalToken) ||
			types[259] != uint32(normalToken) {
			t.Errorf("%s: %d types, %v", pattern, len(types), types)
		}
		rank := map[string]int{}
		for i, m := range keys["tokenizer.ggml.merges"].([]any) {
			rank[m.(string)] = i
		}
		for _, word := range []string{"the", " the", " end", "text", "héé"} {
			parts := strings.Split(printable(word), "")
			for {
				at, best := -1, len(rank)
				for i := range len(parts) - 1 {
					if r, ok := rank[parts[i]+" "+parts[i+1]]; ok && r < best {
						at, best = i, r
					}
				}
				if at < 0 {
					break
				}
				parts = slices.Replace(parts, at, at+2, parts[at]+parts[at+1])
			}
			var got []int32
			for _, p := range parts {
				got = append(got, ids[p])
			}
			if want := tok.Append(nil, []byte(word)); !slices.Equal(got, want) {
				t.Errorf("%s: %q is %v by the file, %v by the tokenizer", pattern, word, got, want)
			}
		}
	}
	if keys := ggufOf(t, Options{}); keys["tokenizer.ggml.model"] != "none" {
		t.Errorf("%v", keys)
	}
}

// TestGGUFSpecialTokens: a file has the beginning and three ends, added tokens by their kind, and what is not there is
// unused.
func TestGGUFSpecialTokens(t *testing.T) {
	path := trainedTokenizer(t, "gpt2", false)
	edit(t, path, object{"post_processor": nil, "added_tokens": []object{{"id": 0, "content": "<|end|>", "special": true},
		{"id": 258, "content": "<tool>"}}})
	edit(t, filepath.Join(filepath.Dir(path), "tokenizer_config.json"), object{"bos_token": "the", "eos_token": "<|end|>"})
	edit(t, filepath.Join(filepath.Dir(path), "generation_config.json"), object{"eos_token_id": []int{7, 8, 900, 9}})
	keys := ggufOf(t, Options{Tokenizer: path})
	var got []string
	for _, name := range []string{"bos_token_id", "add_bos_token", "eos_token_id", "eot_token_id", "eom_token_id"} {
		got = append(got, fmt.Sprint(keys["tokenizer.ggml."+name]))
	}
	tok, err := data.NewTokenizer(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{fmt.Sprint(tok.Begin), "true", "0", "7", "8"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	tokens, types := keys["tokenizer.ggml.tokens"].([]any), keys["tokenizer.ggml.token_type"].([]any)
	if tokens[0] != "<|end|>" || types[0] != uint32(controlToken) || tokens[258] != "<tool>" ||
		types[258] != uint32(userToken) {
		t.Errorf("%v %v", tokens, types)
	}
}

// TestGGUFRefusesTokenizers: what the format cannot say is an error that says how to go on.
func TestGGUFRefusesTokenizers(t *testing.T) {
	checkpoint, _ := tiny(t, "gqa-2")
	for want, set := range map[string]object{
		"it normalizes texts":    {"normalizer": object{"type": "NFC"}},
		"it puts a space before": {"pre_tokenizer": object{"type": "ByteLevel", "add_prefix_space": true}},
		"another pattern than cl100k,": {
			"pre_tokenizer": object{"type": "Sequence", "pretokenizers": []object{{"type": "Digits"}, byteLevel(true)}}},
		"it has 301 tokens": {"added_tokens": []object{{"id": 300, "content": "x"}}},
		"ignore_merges":     nil,
	} {
		path := trainedTokenizer(t, "gpt2", false)
		if edit(t, path, set); set == nil {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var whole struct{ Model object }
			if err := json.Unmarshal(text, &whole); err != nil {
				t.Fatal(err)
			}
			whole.Model["ignore_merges"] = true
			edit(t, path, object{"model": whole.Model})
		}
		_, err := GGUF(checkpoint, Options{Dir: filepath.Join(t.TempDir(), "x"), DType: "fp32", Tokenizer: path})
		if err == nil || !strings.HasPrefix(err.Error(), "export: gguf: tokenizer "+path) ||
			!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
