package serve

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// words turns the text of clients into tokens. The text of a special token becomes that token, except inside the
// messages of a chat.
type words struct {
	Tokenizer
	ends, begin []int32 // the tokens that end a text, and the tokens before its first

	specials   []string          // their texts, the longest first
	ids        map[string]int32  // of specials
	mark       *strings.Replacer // replaces special tokens by a cut and their number
	hide, show *strings.Replacer // change special tokens in the text of messages so that mark does not see them, and back
	// texts that clients cannot write; an edge stands where a message's text meets the template's
	cut, edge   string
	heads       map[string]bool // proper beginnings of special tokens
	tails       map[string]bool // and ends
	all         string          // all special tokens, joined
	longestTail int
}

func newWords(c Config) words {
	w := words{Tokenizer: c.Tokenizer, ends: c.Ends, begin: c.Begin, ids: c.Specials, heads: map[string]bool{},
		tails: map[string]bool{}}
	w.specials = slices.SortedFunc(maps.Keys(c.Specials), func(a, b string) int {
		return cmp.Or(len(b)-len(a), strings.Compare(a, b))
	})
	w.all = strings.Join(w.specials, "\x00")
	w.cut = unwritten(w.specials)
	secret := unwritten(w.specials)
	w.edge = secret + numeral(len(w.specials))
	var mark, hide []string
	show := []string{w.edge, ""}
	for i, special := range w.specials {
		mark = append(mark, special, w.cut+numeral(i))
		hidden := secret + numeral(i)
		hide, show = append(hide, special, hidden), append(show, hidden, special)
		for k := 1; k < len(special); k++ {
			w.heads[special[:k]], w.tails[special[k:]] = true, true
			w.longestTail = max(w.longestTail, k)
		}
	}
	w.mark, w.hide, w.show = strings.NewReplacer(mark...), strings.NewReplacer(hide...), strings.NewReplacer(show...)
	return w
}

// unwritten is a random text that no client can guess and that contains no special token.
func unwritten(specials []string) string {
	for range 1000 {
		text := rand.Text()
		if !slices.ContainsFunc(specials, func(s string) bool { return strings.Contains(text, s) }) {
			return text
		}
	}
	// letters could be special tokens themselves
	return strings.Map(func(r rune) rune { return lastNumeral - r }, rand.Text())
}

// Numerals are runes of Unicode's private planes, which no special token contains.
const firstNumeral, lastNumeral = 0xf0000, 0x10fffd

func numeral(i int) string { return string(rune(firstNumeral + i)) }

// longestWord is the most bytes of one class (letters, numbers, spaces, others) that may follow each other, since
// merging a word takes time in proportion to the square of its length.
const longestWord = 16 << 10

// encode turns a text into ids. Where begin is set, the tokens that texts begin with stand before them.
func (w words) encode(text string, begin bool) ([]int32, error) {
	if n := longestRun(text); n > longestWord {
		return nil, fmt.Errorf("has %d bytes of one kind in a row, at most %d may follow each other", n, longestWord)
	}
	var ids []int32
	if begin {
		ids = append(ids, w.begin...)
	}
	for i, part := range strings.Split(w.mark.Replace(text), w.cut) {
		if i > 0 {
			number, size := utf8.DecodeRuneInString(part)
			ids, part = append(ids, w.ids[w.specials[number-firstNumeral]]), part[size:]
		}
		ids = w.Append(ids, []byte(w.show.Replace(part)))
	}
	return ids, nil
}

// quoted is the text of a message in a form that encode makes no special token of, not even together with the
// template's text beside it.
func (w words) quoted(text string) string {
	if text == "" {
		return ""
	}
	before, after := "", ""
	if strings.Contains(w.all, text) {
		before, after = w.edge, w.edge
	}
	for k := 1; k <= min(len(text), w.longestTail); k++ {
		if w.tails[text[:k]] {
			before = w.edge
		}
		if w.heads[text[len(text)-k:]] {
			after = w.edge
		}
	}
	return before + w.hide.Replace(text) + after
}
