package data

import (
	"sync"
	"unicode"
	"unicode/utf8"
)

// The splitters below are the pre-token patterns of the three vocabularies, written as scanners: each returns the
// length of the first pre-token of a valid, non-empty UTF-8 text. The tests hold them against the patterns themselves.

// What a rune is to the patterns.
const (
	isLetter = 1 << iota // \p{L}
	isNumber             // \p{N}
	isSpace              // \s
	isUpper              // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
	isLower              // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
)

// planeClasses holds the classes of the first 65,536 runes, where nearly all text lives: one load where the unicode
// tables take a binary search.
var planeClasses = sync.OnceValue(func() *[1 << 16]uint8 {
	table := new([1 << 16]uint8)
	for r := range rune(1 << 16) {
		table[r] = runeClass(r)
	}
	return table
})

func runeClass(r rune) (class uint8) {
	if unicode.IsLetter(r) {
		class |= isLetter
	}
	if unicode.IsNumber(r) {
		class |= isNumber
	}
	if unicode.IsSpace(r) {
		class |= isSpace
	}
	if unicode.In(r, unicode.Lu, unicode.Lt, unicode.Lm, unicode.Lo, unicode.M) {
		class |= isUpper
	}
	if unicode.In(r, unicode.Ll, unicode.Lm, unicode.Lo, unicode.M) {
		class |= isLower
	}
	return class
}

type scanner struct{ plane *[1 << 16]uint8 }

// at returns the class of the rune at s[i:] and its size; past the end the size is 0.
func (c scanner) at(s []byte, i int) (class uint8, size int) {
	if i >= len(s) {
		return 0, 0
	}
	if b := s[i]; b < utf8.RuneSelf {
		return c.plane[b], 1
	}
	r, size := utf8.DecodeRune(s[i:])
	if r < 1<<16 {
		return c.plane[r], size
	}
	return runeClass(r), size
}

// run returns where the run of runes of a class that begins at i ends.
func (c scanner) run(s []byte, i int, want uint8) int {
	for {
		class, size := c.at(s, i)
		if size == 0 || class&want == 0 {
			return i
		}
		i += size
	}
}

// others returns where the run of [^\s\p{L}\p{N}] that begins at i ends.
func (c scanner) others(s []byte, i int) int {
	for {
		class, size := c.at(s, i)
		if size == 0 || class&(isLetter|isNumber|isSpace) != 0 {
			return i
		}
		i += size
	}
}

// spaces matches \s+(?!\S)|\s+ : white space up to the last one before a word, which belongs to the word.
func (c scanner) spaces(s []byte) int {
	end, last := 0, 0
	for {
		class, size := c.at(s, end)
		if size == 0 {
			return end
		}
		if class&isSpace == 0 {
			break
		}
		last = end
		end += size
	}
	if last > 0 {
		return last
	}
	return end
}

// lines matches \s*[\r\n]+ : white space up to its last line end; 0 where it has none.
func (c scanner) lines(s []byte) int {
	for i := c.run(s, 0, isSpace); i > 0; i-- {
		if s[i-1] == '\n' || s[i-1] == '\r' {
			return i
		}
	}
	return 0
}

// numbers matches \p{N}{1,3}; 0 where there is none.
func (c scanner) numbers(s []byte) int {
	end := 0
	for range 3 {
		class, size := c.at(s, end)
		if class&isNumber == 0 {
			break
		}
		end += size
	}
	return end
}

// contraction matches 's 't 're 've 'm 'll 'd at s[i:] and returns its length, 0 where there is none. Folding case
// also folds the long s (U+017F), as the patterns do.
func contraction(s []byte, i int, fold bool) int {
	if i+1 >= len(s) || s[i] != '\'' {
		return 0
	}
	lower := func(b byte) byte {
		if fold && 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		return b
	}
	first, second := lower(s[i+1]), byte(0)
	if i+2 < len(s) {
		second = lower(s[i+2])
	}
	switch {
	case first == 's' || first == 't' || first == 'm' || first == 'd':
		return 2
	case (first == 'r' || first == 'v') && second == 'e', first == 'l' && second == 'l':
		return 3
	case fold && first == 0xc5 && i+2 < len(s) && s[i+2] == 0xbf: // ſ
		return 3
	}
	return 0
}

// gpt2 matches 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func (c scanner) gpt2(s []byte) int {
	if n := contraction(s, 0, false); n > 0 {
		return n
	}
	start := 0
	if s[0] == ' ' {
		start = 1
	}
	class, size := c.at(s, start)
	switch {
	case size == 0 || class&isSpace != 0:
		return c.spaces(s)
	case class&isLetter != 0:
		return c.run(s, start, isLetter)
	case class&isNumber != 0:
		return c.run(s, start, isNumber)
	}
	return c.others(s, start)
}

// prefix matches [^\r\n\p{L}\p{N}]? and returns its length.
func (c scanner) prefix(s []byte) int {
	class, size := c.at(s, 0)
	if class&(isLetter|isNumber) != 0 || s[0] == '\r' || s[0] == '\n' {
		return 0
	}
	return size
}

// cl100k matches (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
func (c scanner) cl100k(s []byte) int {
	if n := contraction(s, 0, true); n > 0 {
		return n
	}
	start := c.prefix(s)
	if end := c.run(s, start, isLetter); end > start {
		return end
	}
	return c.rest(s, "\r\n")
}

// qwen2 matches cl100k's pattern with \p{N} instead of \p{N}{1,3}.
func (c scanner) qwen2(s []byte) int {
	if class, size := c.at(s, 0); class&isNumber != 0 {
		return size
	}
	return c.cl100k(s)
}

// rest matches \p{N}{1,3}| ?[^\s\p{L}\p{N}]+[tail]*|\s*[\r\n]+|\s+(?!\S)|\s+
func (c scanner) rest(s []byte, tail string) int {
	if n := c.numbers(s); n > 0 {
		return n
	}
	start := 0
	if s[0] == ' ' {
		start = 1
	}
	if end := c.others(s, start); end > start {
		for end < len(s) && contains(tail, s[end]) {
			end++
		}
		return end
	}
	if n := c.lines(s); n > 0 {
		return n
	}
	return c.spaces(s)
}

func contains(set string, b byte) bool {
	for i := range len(set) {
		if set[i] == b {
			return true
		}
	}
	return false
}

// o200k matches, with U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], L = [\p{Ll}\p{Lm}\p{Lo}\p{M}], P = [^\r\n\p{L}\p{N}]
// and C = (?i:'s|'t|'re|'ve|'m|'ll|'d):
//
//	P?U*L+C?|P?U+L*C?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
func (c scanner) o200k(s []byte) int {
	start := c.prefix(s)
	end := c.lowerWord(s, start)
	if end == 0 && start > 0 {
		end = c.lowerWord(s, 0)
	}
	if end == 0 {
		end = c.upperWord(s, start)
	}
	if end == 0 && start > 0 {
		end = c.upperWord(s, 0)
	}
	if end > 0 {
		return end + contraction(s, end, true)
	}
	return c.rest(s, "\r\n/")
}

// lowerWord matches U*L+ at s[i:] and returns its end, 0 where there is none. Runes in both sets make U* give back as
// a backtracking matcher would: the last position of the run that L accepts.
func (c scanner) lowerWord(s []byte, i int) int {
	from := -1
	for {
		class, size := c.at(s, i)
		if class&isLower != 0 {
			from = i
		}
		if size == 0 || class&isUpper == 0 {
			break
		}
		i += size
	}
	if from < 0 {
		return 0
	}
	return c.run(s, from, isLower)
}

// upperWord matches U+L* at s[i:] and returns its end, 0 where there is none.
func (c scanner) upperWord(s []byte, i int) int {
	end := c.run(s, i, isUpper)
	if end == i {
		return 0
	}
	return c.run(s, end, isLower)
}
