package serve

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Tokenizer turns text into token ids and back. It is used by several goroutines at once.
type Tokenizer interface {
	Append(ids []int32, text []byte) []int32
	Decode(ids []int32) ([]byte, error)
}

// Numbers is the tokenizer of a model that has none: the text of a token is its id. A word that is no number has no
// token.
type Numbers struct{}

// Append appends the numbers of a text.
func (Numbers) Append(ids []int32, text []byte) []int32 {
	for word := range strings.FieldsSeq(string(text)) {
		if id, err := strconv.ParseInt(word, 10, 32); err == nil {
			ids = append(ids, int32(id))
		}
	}
	return ids
}

// Decode writes each id with a space before it.
func (Numbers) Decode(ids []int32) ([]byte, error) {
	var text []byte
	for _, id := range ids {
		text = strconv.AppendInt(append(text, ' '), int64(id), 10)
	}
	return text, nil
}

// longestRun is the bytes of the longest run of one class.
func longestRun(text string) (longest int) {
	class := func(r rune) int {
		switch {
		case unicode.IsLetter(r):
			return 1
		case unicode.IsNumber(r):
			return 2
		case unicode.IsSpace(r):
			return 3
		}
		return 4
	}
	now, start := 0, 0
	for i, r := range text {
		if unicode.IsMark(r) { // in some vocabularies a mark belongs to the class of the letter before it
			continue
		}
		if c := class(r); c != now {
			longest, now, start = max(longest, i-start), c, i
		}
	}
	return max(longest, len(text)-start)
}

// piece is the bytes of one token. An id beyond the vocabulary has none.
func (w words) piece(id int32) []byte {
	text, err := w.Decode([]int32{id})
	if err != nil {
		return nil
	}
	return text
}

// text is the text of ids.
func (w words) text(ids []int32) []byte {
	var text []byte
	for _, id := range ids {
		text = append(text, w.piece(id)...)
	}
	return text
}

// shown is a token's text, or its bytes where they are no whole characters, or its id where it has no text.
func (w words) shown(id int32) string {
	piece := w.piece(id)
	switch {
	case len(piece) == 0:
		return idName(id)
	case utf8.Valid(piece):
		return string(piece)
	}
	text := "bytes:"
	for _, b := range piece {
		text += fmt.Sprintf(`\x%02x`, b)
	}
	return text
}

// An offset counts the characters of a text that comes in pieces, as clients read it. A byte that is part of no
// character counts as one, since JSON carries it as the replacement character.
type offset struct {
	whole int
	open  []byte // the beginning of a character that the next piece may complete
}

// add appends a piece and returns the number of the character at which it begins. A piece that begins inside a
// character begins at the next.
func (o *offset) add(piece []byte) int {
	at := o.whole + min(1, len(o.open))
	text := append(o.open, piece...)
	if _, n := utf8.DecodeRune(text); len(piece) > 0 && utf8.FullRune(text) && n <= len(o.open) {
		// the open character was broken off
		at = o.whole + len(o.open)
	}
	for len(text) > 0 && utf8.FullRune(text) {
		_, n := utf8.DecodeRune(text)
		o.whole, text = o.whole+1, text[n:]
	}
	o.open = slices.Clone(text)
	return at
}
