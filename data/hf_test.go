package data

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"headroom/internal/corpus"
)

// trained trains on a few texts and returns the file's path.
func trained(t testing.TB, vocab int, pattern string, texts ...string) string {
	t.Helper()
	dir := t.TempDir()
	var inputs []string
	for i, text := range texts {
		path := filepath.Join(dir, fmt.Sprint(i, ".txt"))
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, path)
	}
	out := filepath.Join(dir, "tokenizer.json")
	if _, err := TrainTokenizer(context.Background(), TrainOptions{Inputs: inputs, Vocab: vocab, Pattern: pattern,
		Out: out, MinCount: 1}); err != nil {
		t.Fatal(err)
	}
	return out
}

// The steps of "low low low low low lower lower newest*6 widest*3" are those of the paper's Algorithm 1, on bytes.
func TestTrainTokenizerByHand(t *testing.T) {
	text := "low low low low low lower lower" + strings.Repeat(" newest", 6) + strings.Repeat(" widest", 3)
	path := trained(t, 257+8, "gpt2", text)
	tok, err := NewTokenizer(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, piece := range tok.pieces()[257:] {
		got = append(got, string(piece))
	}
	// e s 9, es t 9, then of l o and o w, 7 each, that whose ids are lower, and so on
	want := []string{"es", "est", "lo", "low", " low", " n", " new", " newest"}
	if len(got) != len(want) || !slices.Equal(got[:4], want[:4]) {
		t.Errorf("learned %q, want %q", got, want)
	}
	again, err := os.ReadFile(trained(t, 257+8, "gpt2", text))
	first, _ := os.ReadFile(path)
	if err != nil || string(again) != string(first) {
		t.Error("two trainings differ")
	}
}

func TestTrainedTokenizerRoundTrip(t *testing.T) {
	for pattern := range Patterns {
		tok, err := NewTokenizer(trained(t, 600, pattern, strings.ReplaceAll(strings.Join(hardTexts, " and "), "\x00", "")))
		if err != nil {
			t.Fatal(err)
		}
		if tok.EndOfText != 0 || tok.EndName() != endOfText || tok.whole {
			t.Errorf("%s: end-of-text %d %s, whole %v", pattern, tok.EndOfText, tok.EndName(), tok.whole)
		}
		for _, text := range hardTexts {
			ids := tok.Append(nil, []byte(text))
			got, err := tok.Decode(ids)
			if err != nil || string(got) != string([]rune(text)) {
				t.Fatalf("%s: %q came back as %q, %v", pattern, text, got, err)
			}
		}
	}
}

// The scan and the heap must merge alike.
func TestLongMerges(t *testing.T) {
	tok, err := NewTokenizer(trained(t, 800, "gpt2", strings.Repeat("aaaa aaab abab baaab bbbb ababab ", 20)+
		"aabbaabbaaaaabbbabababababaaaaaaaa"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(tok.Name)
	if err != nil {
		t.Fatal(err)
	}
	var f hfTokenizer
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	b, err := f.Model.merger()
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		word := make([]byte, 2+random.IntN(scanned-2))
		for i := range word {
			word[i] = "aaab"[random.IntN(4)]
		}
		scan := b.append(nil, string(word))
		long := make([]int32, len(word))
		for i, c := range word {
			long[i] = b.bytes[c]
		}
		if long = long[:b.mergeLong(long)]; !slices.Equal(scan, long) {
			t.Fatalf("%s: scanned %v, heap %v", word, scan, long)
		}
	}
	if ids := tok.Append(nil, []byte(strings.Repeat("ab", 1<<19))); len(ids) == 0 || len(ids) > 1<<19 {
		t.Errorf("a megabyte of one word: %d ids", len(ids))
	}
}

// edited is a trained file with some of its parts set.
func edited(t testing.TB, sets map[string]string) []byte {
	t.Helper()
	text, err := os.ReadFile(trained(t, 300, "gpt2", strings.Repeat("the end of the text ", 9)))
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	for key, value := range sets {
		whole[key] = json.RawMessage(value)
	}
	text, err = json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTokenizerParts(t *testing.T) {
	const level = `{"type": "ByteLevel", "use_regex": false}`
	split := func(regex string) string {
		return fmt.Sprintf(
			`{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": %q}, "behavior": "Isolated"}, %s]}`,
			regex, level)
	}
	end := `{"id": 0, "content": "<|endoftext|>", "special": true}`
	for _, test := range []struct {
		what, text string
		sets       map[string]string
		pieces     []string
		whole      bool
	}{
		{"plain", "the end the", nil, []string{"the", " end", " the"}, false},
		{"digits", "the 12", map[string]string{
			"pre_tokenizer": `{"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, {"type": "ByteLevel"}]}`},
			[]string{"the", " ", "1", "2"}, false},
		{"regex", "the end the", map[string]string{"pre_tokenizer": split(`the(?= )`)},
			[]string{"the", " end", " the"}, true},
		{"known", "the end the", map[string]string{"pre_tokenizer": split(Patterns["cl100k"])},
			[]string{"the", " end", " the"}, false},
		{"prefix", "the end", map[string]string{"pre_tokenizer": `{"type": "ByteLevel", "add_prefix_space": true}`},
			[]string{" the", " end"}, true},
		{"added", "the <tool>the<|endoftext|>",
			map[string]string{"added_tokens": "[" + end + `, {"id": 400, "content": "<tool>", "special": false}]`},
			[]string{"the", " ", "<tool>", "the", "<", "|", "en", "d", "of", "t", "ex", "t", "|", ">"}, true},
		{"longest", "  the", map[string]string{
			"added_tokens": "[" + end + `, {"id": 400, "content": " "}, {"id": 401, "content": "  "}]`},
			[]string{"  ", "the"}, true},
		{"normal", "e\u0301", map[string]string{"normalizer": `{"type": "Sequence", "normalizers": [{"type": "NFC"}]}`},
			[]string{"\xc3", "\xa9"}, false},
		{"late", "\u212b", map[string]string{"normalizer": `{"type": "NFC"}`, "added_tokens": "[" + end +
			`, {"id": 400, "content": "A\u030a", "normalized": true}]`},
			[]string{"A\u030a"}, true},
	} {
		tok, err := parseTokenizer(edited(t, test.sets), nil)
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		var got []string
		for _, id := range tok.Append(nil, []byte(test.text)) {
			got = append(got, string(tok.pieces()[id]))
		}
		if !slices.Equal(got, test.pieces) || tok.whole != test.whole {
			t.Errorf("%s: %q in %q, whole %v; want %q, %v", test.what, test.text, got, tok.whole, test.pieces, test.whole)
		}
	}
}

func TestTokenizerRefuses(t *testing.T) {
	end := `[{"id": 0, "content": "<|endoftext|>", "special": true}`
	for _, test := range []struct {
		sets   map[string]string
		config string
		want   string
	}{
		{map[string]string{"model": `{"type": "Unigram"}`}, "", `model type "Unigram": only byte-level BPE`},
		{map[string]string{"model": `{"type": "BPE", "vocab": {"a": 1}}`}, "", "has no token: only byte-level BPE"},
		{map[string]string{"model": `{"type": "BPE", "vocab": {"a": -1}}`}, "", `token "a" has id -1`},
		{map[string]string{"model": `{"type": "BPE", "vocab": {"a": 3, "b": 3}}`}, "", "id 3 belongs to two tokens"},
		{map[string]string{"model": `{"type": "BPE", "byte_fallback": true, "vocab": {"a": 3}}`}, "", "byte fallback"},
		{map[string]string{"pre_tokenizer": `null`}, "", "no pre-tokenizer"},
		{map[string]string{"pre_tokenizer": `{"type": "Metaspace"}`}, "", `pre-tokenizer "Metaspace": must be`},
		{map[string]string{"pre_tokenizer": `{"type": "Digits"}`}, "", "no ByteLevel"},
		{map[string]string{"pre_tokenizer": `{"type": "Split", "behavior": "MergedWithNext", "pattern": {"String": " "}}`},
			"", `a Split that is "MergedWithNext"`},
		{map[string]string{"pre_tokenizer": `{"type": "Split", "behavior": "Isolated", "pattern": {"Regex": "("}}`},
			"", `pattern "("`},
		{map[string]string{"normalizer": `{"type": "BertNormalizer"}`}, "", `normalizer "BertNormalizer"`},
		{map[string]string{"added_tokens": end + `, {"id": 9, "content": "x", "lstrip": true}]`}, "",
			`added token "x": single_word, lstrip and rstrip`},
		{map[string]string{"added_tokens": `[]`, "model": `{"vocab": {}}`}, "", "no token ends a text"},
		{nil, `{"eos_token": {"content": "</eos>"}}`, "none is called </eos>"},
		{nil, `{`, "the tokenizer_config.json beside it"},
	} {
		_, err := parseTokenizer(edited(t, test.sets), map[string][]byte{"tokenizer_config.json": []byte(test.config)})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want %s", test.sets, err, test.want)
		}
	}
	dir := write(t, map[string]string{"a.json": "{", "a.txt": "", "b.txt": "x"})
	if _, err := NewTokenizer(filepath.Join(dir, "a.json")); err == nil ||
		!strings.HasPrefix(err.Error(), "data: tokenizer "+dir+"/a.json: no tokenizer.json") {
		t.Error(err)
	}
	if _, err := NewTokenizer(filepath.Join(dir, "none.json")); err == nil ||
		!strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	for _, test := range []struct {
		o    TrainOptions
		want string
	}{
		{TrainOptions{Vocab: 256, Out: "x.json"}, "data: a vocabulary of 256: must be from 257"},
		{TrainOptions{Vocab: 300, Out: "x"}, "must end in .json"},
		{TrainOptions{Vocab: 300, Out: "x.json", Pattern: "word"},
			`data: pattern "word": must be one of cl100k, gpt2, o200k, qwen2`},
		{TrainOptions{Vocab: 300, Out: "x.json", MinCount: -1}, "data: least count -1"},
		{TrainOptions{Vocab: 300, Out: "x.json", Inputs: []string{filepath.Join(dir, "a.txt")}}, "data: no text to train"},
	} {
		if _, err := TrainTokenizer(context.Background(), test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %s", err, test.want)
		}
	}
}

func FuzzTokenizer(f *testing.F) {
	f.Add(edited(f, nil), "the end")
	f.Add(edited(f, map[string]string{"added_tokens": `[{"id": 0, "content": "</s>"}, {"id": 3, "content": " "}]`}), "a b")
	f.Add([]byte(`{"model": {"merges": [["a"]]}}`), "")
	f.Add([]byte(`{"model": {"vocab": {"": 0}}, "added_tokens": [{"content": ""}]}`), "x")
	f.Fuzz(func(t *testing.T, file []byte, text string) {
		tok, err := parseTokenizer(file, nil)
		if err != nil {
			return
		}
		for _, id := range tok.Append(nil, []byte(text)) {
			if id < 0 || int(id) >= tok.Vocab {
				t.Fatalf("id %d of %d", id, tok.Vocab)
			}
		}
	})
}

func BenchmarkEncodeTokenizerJSON(b *testing.B) {
	text, err := os.ReadFile(corpus.Path(b, "books.val.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	tok, err := NewTokenizer(trained(b, 8000, "gpt2", string(text)))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	var ids []int32
	for b.Loop() {
		ids = tok.Append(ids[:0], text)
	}
}
