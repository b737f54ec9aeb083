package data

import (
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

var forms = map[string]norm.Form{"NFC": norm.NFC, "NFD": norm.NFD, "NFKC": norm.NFKC, "NFKD": norm.NFKD}

// TestManyMarks: any number of marks stays what it is, without a joiner of graphemes (U+034F) among them.
func TestManyMarks(t *testing.T) {
	below, above := "̖", "́"
	for _, c := range []struct{ form, text, want string }{
		{"NFC", "a" + strings.Repeat(below, 31) + "b", "a" + strings.Repeat(below, 31) + "b"},
		{"NFD", "á" + strings.Repeat(above, 40), "a" + strings.Repeat(above, 41)},
		{"NFC", "a" + strings.Repeat(below, 40) + above, "á" + strings.Repeat(below, 40)},
		{"NFC", "a" + strings.Repeat(above, 40), "á" + strings.Repeat(above, 39)},
		{"NFKC", "ﬁ" + strings.Repeat(above, 35) + below, "fí" + below + strings.Repeat(above, 34)},
		{"NFKD", "ﬁ" + strings.Repeat(above, 35) + below, "fi" + below + strings.Repeat(above, 35)},
		{"NFC", "각" + strings.Repeat(above, 33), "각" + strings.Repeat(above, 33)},
		{"NFC", strings.Repeat(above, 33) + "\xff" + above, strings.Repeat(above, 33) + "\xff" + above},
	} {
		if got := string(normalize(forms[c.form], []byte(c.text))); got != c.want {
			t.Errorf("%s of %q: %q, want %q", c.form, c.text, got, c.want)
		}
	}
}

// TestNormalizeAsTheLibrary holds the way of long runs against the library's on text of short ones.
func TestNormalizeAsTheLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	letters := []rune("aeoåΩ각ᄀᆨﬁ½ा𝔸𐒰 \n")
	for range 20000 {
		var b []byte
		for range 1 + r.IntN(5) {
			b = append(b, string(letters[r.IntN(len(letters))])...)
			for range r.IntN(6) {
				b = append(b, string(rune(0x300+r.IntN(0x70)))...)
			}
			if r.IntN(9) == 0 {
				b = append(b, 0xff)
			}
		}
		for name, f := range forms {
			marks := decompose(f, b)
			order(marks)
			if f == norm.NFC || f == norm.NFKC {
				marks = compose(marks)
			}
			var got []byte
			for _, m := range marks {
				got = m.append(got)
			}
			if want := f.Bytes(b); string(got) != string(want) {
				t.Fatalf("%s of %q: %q, the library says %q", name, b, got, want)
			}
		}
	}
}
