package serve

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// words turns text into tokens as clients write it: the text of a special token is that token, but for what users say in a
// chat.
type words struct {
	Tokenizer
	ends, begin []int32 // the tokens that end a text, and those before it
	ids         map[string]int32
	specials    []string // by length, the longest first
	hide, show  *strings.Replacer
	edge        string // stands where a user's text meets the template's, and is no text
}

func newWords(c Config) words {
	w := words{Tokenizer: c.Tokenizer, ends: c.Ends, begin: c.Begin, ids: c.Specials}
	w.specials = slices.SortedFunc(maps.Keys(c.Specials), func(a, b string) int {
		return cmp.Or(len(b)-len(a), strings.Compare(a, b))
	})
	nonce := rand.Text() // nobody can write it
	w.edge = nonce + "."
	var hide []string
	show := []string{w.edge, ""}
	for i, special := range w.specials {
		name := nonce + strconv.Itoa(i) + "."
		hide, show = append(hide, special, name), append(show, name, special)
	}
	w.hide, w.show = strings.NewReplacer(hide...), strings.NewReplacer(show...)
	return w
}

// longestWord is how many bytes of one class (letters, numbers, spaces, others) may follow each other: merging takes the
// square of that.
const longestWord = 16 << 10

// encode turns a text into ids, behind what a text begins with where that is asked for.
func (w words) encode(text string, begin bool) ([]int32, error) {
	if n := longestRun(text); n > longestWord {
		return nil, fmt.Errorf("has %d bytes of one kind in a row, at most %d may follow each other", n, longestWord)
	}
	var ids []int32
	if begin {
		ids = append(ids, w.begin...)
	}
	for text != "" {
		at, special := w.next(text)
		ids = w.Append(ids, []byte(w.show.Replace(text[:at])))
		if special != "" {
			ids = append(ids, w.ids[special])
		}
		text = text[at+len(special):]
	}
	return ids, nil
}

// next finds the first special token of a text, of those that begin there the longest; without one it is where the text
// ends.
func (w words) next(text string) (at int, special string) {
	at = len(text)
	for _, s := range w.specials {
		if i := strings.Index(text, s); i >= 0 && i < at {
			at, special = i, s
		}
	}
	return at, special
}

// quoted is what a user says, in a form of which encode makes no special token, not with what stands beside it in a template
// either.
func (w words) quoted(text string) string {
	if text == "" {
		return ""
	}
	before, after := "", ""
	for _, s := range w.specials {
		if strings.Contains(s, text) {
			before, after = w.edge, w.edge
		}
		for k := 1; k < len(s); k++ {
			if strings.HasPrefix(text, s[k:]) {
				before = w.edge
			}
			if strings.HasSuffix(text, s[:k]) {
				after = w.edge
			}
		}
	}
	return before + w.hide.Replace(text) + after
}
