package data

import (
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalize brings text into a normal form of Unicode (UAX #15). golang.org/x/text writes its stream-safe variant, with
// a U+034F after thirty marks in a row, which no tokenizer was trained with: text with long runs of marks is normalized
// by the functions below.
func normalize(f norm.Form, text []byte) []byte {
	if !crowded(text) {
		return f.Bytes(text)
	}
	marks := decompose(f, text)
	order(marks)
	if f == norm.NFC || f == norm.NFKC {
		marks = compose(marks)
	}
	var out []byte
	for _, m := range marks {
		out = m.append(out)
	}
	return out
}

// fewMarks is a number of marks that, with the letter before them, decompose to at most thirty.
const fewMarks = 8

// crowded says that some letter has more than fewMarks combining marks.
func crowded(text []byte) bool {
	run := 0
	for i := 0; i < len(text); {
		if text[i] < 0xcc { // below U+0300 nothing combines
			run = 0
			i++
			continue
		}
		p := norm.NFKD.Properties(text[i:])
		if p.LeadCCC() == 0 {
			run = 0
		} else if run++; run > fewMarks {
			return true
		}
		i += max(p.Size(), 1)
	}
	return false
}

// A point is one rune with its combining class, or one byte that is no UTF-8.
type point struct {
	r     rune
	class uint8
	raw   bool
}

func (p point) append(out []byte) []byte {
	if p.raw {
		return append(out, byte(p.r))
	}
	return utf8.AppendRune(out, p.r)
}

// decompose decomposes every rune, canonically or for compatibility as the form says.
func decompose(f norm.Form, text []byte) (all []point) {
	apart := norm.NFD
	if f == norm.NFKC || f == norm.NFKD {
		apart = norm.NFKD
	}
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			all = append(all, point{r: rune(text[0]), raw: true})
			text = text[1:]
			continue
		}
		for _, r := range string(apart.Bytes(text[:size])) {
			all = append(all, point{r: r, class: norm.NFD.PropertiesString(string(r)).CCC()})
		}
		text = text[size:]
	}
	return all
}

// order sorts each run of marks by their classes; those of one class stay as they came.
func order(all []point) {
	for i := 0; i < len(all); {
		n := i
		for n < len(all) && all[n].class > 0 {
			n++
		}
		slices.SortStableFunc(all[i:n], func(a, b point) int { return int(a.class) - int(b.class) })
		i = max(n, i+1)
	}
}

// compose joins each mark with the letter before it where Unicode has one rune for both and no mark of its class, or of
// none, stands between them.
func compose(all []point) []point {
	out := all[:0]
	letter := -1 // in out
	for _, p := range all {
		if letter >= 0 && !p.raw {
			last := out[len(out)-1].class
			if adjacent := letter == len(out)-1; adjacent || last < p.class && last > 0 {
				if r, ok := single(out[letter].r, p.r); ok {
					out[letter].r = r
					continue
				}
			}
		}
		out = append(out, p)
		switch {
		case p.raw:
			letter = -1
		case p.class == 0:
			letter = len(out) - 1
		}
	}
	return out
}

// single is the rune that two runes compose to, if there is one.
func single(a, b rune) (rune, bool) {
	var buf [2 * utf8.UTFMax]byte
	one := norm.NFC.Bytes(utf8.AppendRune(utf8.AppendRune(buf[:0], a), b))
	r, size := utf8.DecodeRune(one)
	return r, size == len(one)
}
