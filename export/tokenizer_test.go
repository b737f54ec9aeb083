package export

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"headroom/data"
)

// The tokenizer.json that we write must be read back as the same ids, through scanners and, for a pattern that has
// none, through a regular expression.
func TestTokenizerIsReadBack(t *testing.T) {
	letters := []rune("aBc'sSdDrRelLtmM ſ\u0301ʰªǅ一ñÑ 12½ \t\n\r\u00a0/!.😀\u0903\ufffd")
	for _, name := range []string{"gpt2", "cl100k", "o200k"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := writeTokenizer(dir, name, 64); err != nil {
				t.Fatal(err)
			}
			want, err := data.NewTokenizer(name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := data.NewTokenizer(filepath.Join(dir, "tokenizer.json"))
			if err != nil {
				t.Fatal(err)
			}
			if got.EndOfText != want.EndOfText || got.EndName() != endOfText {
				t.Errorf("end-of-text %d %s, want %d", got.EndOfText, got.EndName(), want.EndOfText)
			}
			random := rand.New(rand.NewPCG(5, 6))
			for range 10_000 {
				text := make([]rune, 1+random.IntN(100))
				for i := range text {
					if text[i] = letters[random.IntN(len(letters))]; random.IntN(3) == 0 {
						text[i] = rune(random.IntN(0x3000))
					}
				}
				a, b := want.Append(nil, []byte(string(text))), got.Append(nil, []byte(string(text)))
				if !slices.Equal(a, b) {
					t.Fatalf("%q: %v, read back %v", string(text), a, b)
				}
			}
			again := t.TempDir()
			if err := writeTokenizer(again, filepath.Join(dir, "tokenizer.json"), 64); err != nil {
				t.Fatal(err)
			}
			if third, err := data.NewTokenizer(filepath.Join(again, "tokenizer.json")); err != nil ||
				fmt.Sprint(third.Append(nil, []byte("a text"))) != fmt.Sprint(want.Append(nil, []byte("a text"))) {
				t.Errorf("passed on: %v", err)
			}
		})
	}
}
