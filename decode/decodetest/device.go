package decodetest

import (
	"math/rand/v2"
	"testing"

	"headroom/decode"
)

// Pages are free pages of a cache, in random order.
type Pages []int32

// Scattered are the pages of a pool of n.
func Scattered(r *rand.Rand, n int) *Pages {
	p := make(Pages, n)
	for i := range p {
		p[i] = int32(n - 1 - i)
	}
	r.Shuffle(n, func(i, j int) { p[i], p[j] = p[j], p[i] })
	return &p
}

// Take takes pages for n tokens.
func (p *Pages) Take(t testing.TB, n int) []int32 {
	t.Helper()
	cut := len(*p) - decode.PagesFor(n)
	if cut < 0 {
		t.Fatalf("no pages for %d tokens", n)
	}
	taken := append([]int32(nil), (*p)[cut:]...)
	*p = (*p)[:cut]
	return taken
}

// Pass runs a pass on a device and returns all that it scores: [scored, V]. What it draws must be greedy.
func Pass(t testing.TB, d decode.Device, b decode.Batch) (y []float32) {
	t.Helper()
	if err := d.Pass(b); err != nil {
		t.Fatal(err)
	}
	tokens, err := d.Tokens()
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Score {
		l, err := d.Scores(i)
		if err != nil {
			t.Fatal(err)
		}
		best := 0
		for j := range l {
			if l[j] > l[best] {
				best = j
			}
		}
		if int(tokens[i]) != best {
			t.Errorf("score %d: drew %d, the largest is %d", i, tokens[i], best)
		}
		y = append(y, l...)
	}
	return y
}

// Split cuts sequences at random into chunks and steps, side by side, each at its own pace, in pages at random places,
// and returns the logits of each: [T, V]. A device with 20 pages takes those of Texts.
func Split(t testing.TB, d decode.Device, m *decode.Model, seed uint64, texts [][]int32) [][]float32 {
	t.Helper()
	got, _ := SplitPages(t, d, m, seed, texts)
	return got
}

// SplitPages is Split that also says in which pages each sequence lies.
func SplitPages(t testing.TB, d decode.Device, m *decode.Model, seed uint64, texts [][]int32) ([][]float32, [][]int32) {
	t.Helper()
	r, p, V := rand.New(rand.NewPCG(3, seed)), Scattered(rand.New(rand.NewPCG(1, seed)), 20), m.Config.Vocab
	pages, done, got := make([][]int32, len(texts)), make([]int, len(texts)), make([][]float32, len(texts))
	for i := range texts {
		pages[i] = p.Take(t, len(texts[i]))
	}
	for {
		var b decode.Batch
		var rows []int
		same := r.IntN(2) == 0 // a step of one token each
		for i, text := range texts {
			n := min(len(text)-done[i], []int{0, 1, 1, 2, 17, 70}[r.IntN(6)])
			if same {
				n = min(len(text)-done[i], 1)
			}
			if n > 0 {
				b.Add(pages[i], done[i], text[done[i]:done[i]+n], n)
				done[i] += n
				rows = append(rows, i)
			}
		}
		if len(rows) > 0 {
			y := Pass(t, d, b)
			for j, i := range rows {
				got[i] = append(got[i], y[b.Rows[j].From*V:(b.Rows[j].From+b.Rows[j].T)*V]...)
			}
		}
		left := 0
		for i := range texts {
			left += len(texts[i]) - done[i]
		}
		if left == 0 {
			return got, pages
		}
	}
}

// Texts are sequences of one token, of parts of pages and of several.
func Texts(m *decode.Model) (all [][]int32) {
	r := rand.New(rand.NewPCG(4, 4))
	for _, n := range []int{1, 150, 65, 200} {
		all = append(all, Tokens(r, n, m.Config.Vocab))
	}
	return all
}
