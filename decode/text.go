package decode

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// A Vocabulary turns tokens into text.
type Vocabulary interface {
	Decode(ids []int32) ([]byte, error)
}

// stream is the text of a request as it grows. What may be the beginning of a stop string or of a rune waits.
type stream struct {
	stops []string
	text  []byte
	taken int
	done  bool
	ends  []int // of each token's text
	told  int   // so many tokens have their text in what was taken, or a part of it
}

// push appends the text of a token and says whether a stop string ended the text; the text then ends before it.
func (s *stream) push(piece []byte) bool {
	old := len(s.text)
	s.text = append(s.text, piece...)
	s.ends = append(s.ends, len(s.text))
	end := -1
	for _, stop := range s.stops {
		from := max(0, old-len(stop)+1)
		if at := bytes.Index(s.text[from:], []byte(stop)); at >= 0 && (end < 0 || from+at < end) {
			end = from + at
		}
	}
	if end < 0 {
		return false
	}
	s.text, s.done = s.text[:end], true
	return true
}

// take returns the text that became certain since the last call.
func (s *stream) take() string {
	end := len(s.text)
	if !s.done {
		end -= s.waiting()
	}
	if end <= s.taken {
		return ""
	}
	text := string(s.text[s.taken:end])
	s.taken = end
	return text
}

// tokens is the number of tokens that the text that was taken comes from, without those of a stop string.
func (s *stream) tokens() int {
	for ; s.told < len(s.ends); s.told++ {
		start := 0
		if s.told > 0 {
			start = s.ends[s.told-1]
		}
		if s.ends[s.told] > s.taken && start >= s.taken {
			break
		}
	}
	return s.told
}

// waiting is how many bytes at the end may become part of a stop string or of a rune.
func (s *stream) waiting() (n int) {
	tail := string(s.text[s.taken:])
	for _, stop := range s.stops {
		for l := min(len(stop)-1, len(tail)); l > n; l-- {
			if strings.HasSuffix(tail, stop[:l]) {
				n = l
			}
		}
	}
	for l := min(utf8.UTFMax-1, len(tail)); l > n; l-- {
		if start := tail[len(tail)-l:]; utf8.RuneStart(start[0]) && !utf8.FullRuneInString(start) {
			n = l
		}
	}
	return n
}
