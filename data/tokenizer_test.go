package data

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"headroom/internal/corpus"
)

var hardTexts = []string{
	"", " ", "  ", "\n", "a", "Hello world", "Hello  world   \n\n  x\t\ty \r\n\r\n z", "   ", "x   ", "\n\n\n", " \n \n ",
	"it's we're I've I'm you'll he'd IT'S WE'RE I'VE I'M YOU'LL HE'D 'dog 'Llama '' 's's 'ſ a'ſb 'r 'v 'l ' 's",
	"1234567890 12 1,234.5 ½ ² Ⅷ ٣٤٥ 一二三 x1y2", "你好，世界。日本語テキスト 한국어",
	"😀👩‍👩‍👧‍👦 🇩🇪 e\u0301 \u0301a a\u0301\u0301B ʰB Bʰ AʰBʰCd",
	"camelCase HTTPServer XMLHttpRequest ABCdef ǅabc Ǆa ªb", "a/b//c/\n/ !!\n\n?? //\r\n/x",
	"\u00a0\u00a0x\u2003\u2003y\u3000z\u0085w\u2028v",
	"\ufeffbom", "bad \xff\xfe bytes \xc3( \xe2\x82 \xf0\x9f\x98 end", "\x00\x01\x02",
	"<|endoftext|> <|fim_prefix|><|endofprompt|>",
	"عربى हिन्दी ไทย עִבְרִית", "_under_score __init__ $x #y @z", strings.Repeat("ab", 300),
	strings.Repeat(" ", 300) + "x", strings.Repeat("!", 200),
	"\u0903\u0903 !\u0301x \u0301", "𝐀𝐁𝐜 𐐀𐐨 𠀀𠀁", "''s '\u0301s \r's \n's",
}

func bpe(t testing.TB) []*Tokenizer {
	t.Helper()
	var out []*Tokenizer
	for _, name := range []string{"gpt2", "cl100k", "o200k"} {
		tok, err := NewTokenizer(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, tok)
	}
	return out
}

// The library passes over U+007F and cuts white space between line ends where its own patterns do not.
var libraryErrs = regexp.MustCompile(`\x7f|[\r\n][\pZ\t\v\f\x{85}]+[\r\n]`)

func TestTokenizersWhereLibraryErrs(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       string
	}{
		{"gpt2", "a\x7fb", "[64 221 65]"}, {"cl100k", "a\x7fb", "[64 221 65]"}, {"o200k", "\n\t\n", "[40612]"},
	} {
		tok, err := NewTokenizer(test.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(tok.Append(nil, []byte(test.text))); got != test.want {
			t.Errorf("%s of %q: %v, want %v", test.name, test.text, got, test.want)
		}
	}
}

func sameAsLibrary(t *testing.T, tok *Tokenizer, text string) {
	t.Helper()
	for libraryErrs.MatchString(text) {
		text = libraryErrs.ReplaceAllString(text, "\n")
	}
	want, _, err := tok.codec.Encode(text)
	if err != nil {
		t.Fatal(err)
	}
	got := tok.Append(nil, []byte(text))
	if !slices.EqualFunc(got, want, func(a int32, b uint) bool { return uint(a) == b }) {
		t.Fatalf("%s of %q:\n%v, the library has\n%v", tok.Name, text, got, want)
	}
}

func TestTokenizersAgreeWithLibrary(t *testing.T) {
	letters := []rune("aBc'sSdDrRelLtmM ſ\u0301ʰªǅ一ñÑ 12½ \t\n\r\u00a0/!.😀\u0903\ufffd")
	random := rand.New(rand.NewPCG(1, 2))
	for _, tok := range bpe(t) {
		for _, text := range hardTexts {
			sameAsLibrary(t, tok, text)
		}
		sameAsLibrary(t, tok, strings.Join(hardTexts, "x "))
		for range 20000 {
			text := make([]rune, 1+random.IntN(12))
			for i := range text {
				text[i] = letters[random.IntN(len(letters))]
			}
			sameAsLibrary(t, tok, string(text))
		}
		for r := rune(0); r < 0x20000; r += 7 { // every class of rune in the places where classes matter
			sameAsLibrary(t, tok, "a"+string(r)+"B "+string(r)+string(r)+" 1"+string(r))
		}
	}
}

func TestTokenizersAgreeOnText(t *testing.T) {
	for _, name := range []string{"wikitext2.valid.txt", "shakespeare.txt"} {
		text, err := os.ReadFile(corpus.Path(t, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, tok := range bpe(t) {
			sameAsLibrary(t, tok, string(text[:300_000]))
		}
	}
}

func TestTokenizersRoundTrip(t *testing.T) {
	for _, name := range TokenizerNames() {
		tok, err := NewTokenizer(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range hardTexts {
			want := []byte(text)
			if name != "bytes" {
				want = []byte(string([]rune(text)))
			}
			ids := tok.Append(nil, []byte(text))
			for _, id := range ids {
				if id < 0 || int(id) >= tok.Vocab || id == tok.EndOfText {
					t.Fatalf("%s of %q: id %d", name, text, id)
				}
			}
			got, err := tok.Decode(ids)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s of %q came back as %q, %v", name, text, got, err)
			}
		}
		if got, err := tok.Decode([]int32{tok.EndOfText}); err != nil || string(got) != endOfText {
			t.Fatalf("%s: end-of-text is %q, %v", name, got, err)
		}
		if _, err := tok.Decode([]int32{int32(tok.Vocab)}); err == nil {
			t.Fatalf("%s: id %d decoded", name, tok.Vocab)
		}
	}
	if _, err := NewTokenizer("gpt5"); err == nil ||
		err.Error() != `data: tokenizer "gpt5": must be one of bytes, gpt2, cl100k, o200k, or a tokenizer.json` {
		t.Fatal(err)
	}
}

func TestMemoForgets(t *testing.T) {
	tok := bpe(t)[0]
	m := tok.borrow()
	for i := range memoWords {
		m.known[fmt.Sprintf("\x01%d", i)] = span{}
	}
	tok.giveBack(m)
	sameAsLibrary(t, tok, "full memos forget and go on")
	if len(m.known) > 10 {
		t.Fatalf("%d words kept", len(m.known))
	}
}

func BenchmarkEncodeGPT2(b *testing.B) {
	text, err := os.ReadFile(corpus.Path(b, "books.val.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	tok := bpe(b)[0]
	b.SetBytes(int64(len(text)))
	var ids []int32
	for b.Loop() {
		ids = tok.Append(ids[:0], text)
	}
}
