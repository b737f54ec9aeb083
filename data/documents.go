package data

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A tally counts the lines and texts that were left out or changed.
type tally struct {
	skipped int // bad lines
	invalid int // texts, or stretches of one, with bytes that are no UTF-8, or halves of a surrogate pair in JSON
}

func (t *tally) look(text []byte) {
	if !utf8.Valid(text) {
		t.invalid++
	}
}

// replaced says that a text read from a line of JSON has a U+FFFD which the line has not: for bytes that are no UTF-8,
// or for half a surrogate pair.
func replaced(line []byte, text string) bool {
	if !utf8.Valid(line) {
		return true
	}
	n := strings.Count(text, "\ufffd")
	return n > 0 && n > bytes.Count(line, []byte("\ufffd"))+bytes.Count(bytes.ToLower(line), []byte(`\ufffd`))
}

// documents calls emit with the texts of a block. begins is false for a text that continues a document of the block
// before. With skip bad lines are counted, without it the first is an error.
func (b block) documents(field string, skip bool, add func(text []byte, begins bool)) (t tally, err error) {
	switch {
	case b.rows != nil:
		err = b.rows.texts(b.file, field, func(text []byte) {
			t.look(text)
			add(text, true)
		})
		return t, err
	case b.line == 0:
		t.look(b.data)
		add(b.data, b.first)
		return t, nil
	}
	line := b.line
	for data := range bytes.Lines(b.data) {
		text, ok, err := parseLine(data, field)
		switch {
		case err != nil && skip:
			t.skipped++
		case err != nil:
			return t, fmt.Errorf("data: %s:%d: %w", b.file, line, err)
		case ok && text != "":
			if replaced(data, text) {
				t.invalid++
			}
			add([]byte(text), true)
		}
		line++
	}
	return t, nil
}

// countWords counts what white space separates.
func countWords(text []byte) (n int64) {
	inside := false
	for i := 0; i < len(text); {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(text[i:])
		}
		space := unicode.IsSpace(r)
		if !space && !inside {
			n++
		}
		inside = !space
		i += size
	}
	return n
}
