package decode

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestOdds(t *testing.T) {
	ln := func(p ...float64) (l []float32) {
		for _, v := range p {
			l = append(l, float32(math.Log(v)))
		}
		return l
	}
	base := ln(0.1, 0.4, 0.2, 0.3)
	for _, c := range []struct {
		name    string
		s       Sampling
		logits  []float32
		history []int32
		want    []float64
	}{
		{"greedy takes the first of equals", Sampling{}, []float32{1, 3, 3, 2}, nil, []float64{0, 1, 0, 0}},
		{"plain", Sampling{Temperature: 1}, base, nil, []float64{0.1, 0.4, 0.2, 0.3}},
		{"temperature 1/2 squares", Sampling{Temperature: 0.5}, base, nil, []float64{1. / 30, 16. / 30, 4. / 30, 9. / 30}},
		{"top-k", Sampling{Temperature: 1, TopK: 2}, base, nil, []float64{0, 4. / 7, 0, 3. / 7}},
		{"top-k of all", Sampling{Temperature: 1, TopK: 9}, base, nil, []float64{0.1, 0.4, 0.2, 0.3}},
		{"top-p takes the one that reaches it", Sampling{Temperature: 1, TopP: 0.65}, base, nil,
			[]float64{0, 4. / 7, 0, 3. / 7}},
		{"top-p after top-k", Sampling{Temperature: 1, TopK: 2, TopP: 0.5}, base, nil, []float64{0, 1, 0, 0}},
		{"min-p", Sampling{Temperature: 1, MinP: 0.6}, base, nil, []float64{0, 4. / 7, 0, 3. / 7}},
		{"top-p that is reached exactly takes no more", Sampling{Temperature: 1, TopP: 0.5}, []float32{2, 2, 2, 2}, nil,
			[]float64{0.5, 0.5, 0, 0}},
		{"top-p that is reached exactly after top-k", Sampling{Temperature: 1, TopK: 2, TopP: 0.5}, []float32{2, 2, 2, 2},
			nil, []float64{1, 0, 0, 0}},
		{"min-p keeps what has just so much", Sampling{Temperature: 1, MinP: math.Exp(-1)}, []float32{1, 2, 0, 1}, nil,
			[]float64{1 / (2 + math.E), math.E / (2 + math.E), 0, 1 / (2 + math.E)}},
		{"min-p 1 keeps equals of the largest", Sampling{Temperature: 1, MinP: 1}, []float32{1, 3, 3, 2}, nil,
			[]float64{0, 0.5, 0.5, 0}},
		{"repetition, each once", Sampling{Repetition: 2}, []float32{3, 2, -1, 1}, []int32{0, 0}, []float64{0, 1, 0, 0}},
		{"repetition of negatives", Sampling{Repetition: 3}, []float32{-1, -2, -2.5, -4}, []int32{0}, []float64{0, 1, 0, 0}},
	} {
		for i, p := range c.s.odds(c.logits, c.history) {
			if math.Abs(p-c.want[i]) > 1e-6 {
				t.Errorf("%s: %v, want %v", c.name, c.s.odds(c.logits, c.history), c.want)
				break
			}
		}
	}
}

// chiSquared measures how far counts are from a distribution, in standard deviations of what chance gives.
func chiSquared(counts []int, p []float64) float64 {
	var n, x, free float64
	for _, c := range counts {
		n += float64(c)
	}
	for i, c := range counts {
		if want := n * p[i]; want > 0 {
			x += (float64(c) - want) * (float64(c) - want) / want
			free++
		} else if c > 0 {
			return math.Inf(1)
		}
	}
	return (x - (free - 1)) / math.Sqrt(2*(free-1))
}

func TestVerifyKeepsTheDistribution(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	p := []float64{0.5, 0.2, 0, 0.25, 0.05}
	for name, q := range map[string][]float64{
		"like p": p, "flat": {0.2, 0.2, 0.2, 0.2, 0.2}, "wrong": {0.01, 0.01, 0.9, 0.04, 0.04}, "certain": {0, 0, 0, 1, 0},
		"impossible": {0, 0, 1, 0, 0},
	} {
		counts, taken := make([]int, len(p)), 0
		for range 40000 {
			given := q
			if name == "certain" || name == "impossible" {
				given = nil
			}
			token, ok := verify(r, p, given, draw(r.Float64(), q))
			counts[token]++
			if ok {
				taken++
			}
		}
		var overlap float64
		for i := range p {
			overlap += min(p[i], q[i])
		}
		if x := chiSquared(counts, p); x > 4 || math.Abs(float64(taken)/40000-overlap) > 0.015 {
			t.Errorf("%s: %v is %.1f deviations off; %d taken, the overlap is %.2f", name, counts, x, taken, overlap)
		}
	}
}

func TestStream(t *testing.T) {
	for _, c := range []struct {
		name   string
		stops  []string
		pieces []string
		want   []string // of take after each piece
		stop   bool
	}{
		{"plain", nil, []string{"ab", "c"}, []string{"ab", "c"}, false},
		{"a rune waits for its end", nil, []string{"a\xe2\x82", "\xac", "\xf0"}, []string{"a", "€", ""}, false},
		{"bytes that are no rune do not wait", nil, []string{"\xff", "\x80a"}, []string{"\xff", "\x80a"}, false},
		{"a stop string over pieces", []string{"END"}, []string{"xE", "N", "D y"}, []string{"x", "", ""}, true},
		{"not one after all", []string{"END"}, []string{"xE", "N", "x"}, []string{"x", "", "ENx"}, false},
		{"the earliest of two", []string{"cd", "b"}, []string{"abcd"}, []string{"a"}, true},
		{"a stop string at the start", []string{"a"}, []string{"ab"}, []string{""}, true},
	} {
		s, stopped := stream{stops: c.stops}, false
		var got []string
		for _, p := range c.pieces {
			stopped = s.push([]byte(p))
			got = append(got, s.take())
		}
		if !slices.Equal(got, c.want) || stopped != c.stop {
			t.Errorf("%s: %q stopped %v, want %q", c.name, got, stopped, c.want)
		}
	}
	var told []int
	held := stream{stops: []string{"END"}}
	for _, p := range []string{"x", "yE", "", "N", "z", "E", "ND!"} { // an empty piece is a token without text
		held.push([]byte(p))
		held.take()
		told = append(told, held.tokens())
	}
	if want := []int{1, 2, 2, 2, 5, 5, 5}; !slices.Equal(told, want) {
		t.Errorf("%v tokens are certain, not %v", told, want)
	}
	s := stream{stops: []string{"xyz"}}
	s.push([]byte("axy"))
	if first := s.take(); first != "a" {
		t.Errorf("%q is certain, not a", first)
	}
	if s.done = true; s.take() != "xy" {
		t.Error("the end does not release what waited")
	}
}

// FuzzStream cuts a text into pieces and takes them one by one: what comes is the text up to the stop string, in whole
// runes where the text has them.
func FuzzStream(f *testing.F) {
	f.Add("one, two, END three", "END", uint64(1))
	f.Add("aaab", "aab", uint64(2))
	f.Add("h\u00e9\u20ac\U0001f600", "\u20ac", uint64(3))
	f.Add("\xf0\x9f\x98", "x", uint64(4))
	f.Fuzz(func(t *testing.T, text, stop string, seed uint64) {
		if stop == "" {
			return
		}
		r, s, rest, got := rand.New(rand.NewPCG(seed, 1)), stream{stops: []string{stop}}, text, ""
		stopped := false
		for rest != "" && !stopped {
			n := 1 + r.IntN(min(len(rest), 5))
			stopped = s.push([]byte(rest[:n]))
			rest = rest[n:]
			part := s.take()
			if got += part; utf8.ValidString(text) && utf8.ValidString(stop) && !utf8.ValidString(part) {
				t.Fatalf("%q of %q is no text", part, text)
			}
		}
		s.done = true
		got += s.take()
		want, _, found := strings.Cut(text, stop)
		if got != want || stopped != found {
			t.Fatalf("%q, stopped %v, of %q with %q: want %q", got, stopped, text, stop, want)
		}
	})
}
