package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestTextByHand: two blocks of 10 and 30 tokens on which the arms differ by 2 and 2 nats, in the mean over two seeds.
func TestTextByHand(t *testing.T) {
	x := [][]Block{{{10, 21}, {30, 62}}, {{10, 23}, {30, 62}}}
	y := [][]Block{{{10, 20}, {30, 60}}, {{10, 20}, {30, 60}}}
	got := textual(x, y, 0.05)
	// By token 0.2 and 1/15, 0.1 in all with weights 1/4 and 3/4. Their squares add up to 5/8, so the distances'
	// variances are 9/8 and 1/8.
	variance := 5. / 8 * (0.1*0.1/16 + 9./16/900) / (9./8/16 + 9./16/8)
	near(t, "half", got.Half, 12.7062*math.Sqrt(variance), 1e-5) // t(0.975, 1)
	if got.Documents != 2 {
		t.Errorf("%+v", got)
	}
	y[1][0].Tokens = 11
	if textual(x, y, 0.05) != nil || textual(x, y[:1], 0.05) != nil || textual(nil, nil, 0.05) != nil {
		t.Error("results of different texts are taken together")
	}
}

// TestTextCovers: of texts drawn from one kind, the interval holds the difference of the kind about 95% of the time,
// with documents of equal and of very different lengths, few and many. Where a few of very different lengths are most
// of the text, it holds more often than that.
func TestTextCovers(t *testing.T) {
	for i, c := range []struct {
		documents     int
		spread, tails float64 // of the logarithm of the lengths; of the differences
		most          float64
	}{{4, 0, 0, 0.965}, {40, 0.3, 0, 0.965}, {4, 0.5, 0, 0.965}, {4, 1, 0, 0.98}, {8, 1, 0, 0.97}, {20, 1, 0, 0.965},
		{64, 1, 0, 0.965}, {8, 1, 3, 0.975}, {2, 1, 0, 0.965}} {
		r := rand.New(rand.NewPCG(2, uint64(i)))
		const texts, truth = 3000, 0.01
		held := 0
		for range texts {
			var x, y []Block
			sum, total := 0.0, 0.0
			for range c.documents {
				n := int64(1000*math.Exp(c.spread*r.NormFloat64())) + 1
				common, d := float64(n)*(3+0.3*r.NormFloat64()), float64(n)*(truth+0.02*study{tails: c.tails}.scatter(r))
				x, y = append(x, Block{n, common + d}), append(y, Block{n, common})
				sum, total = sum+d, total+float64(n)
			}
			held += count(math.Abs(sum/total-truth) < textual([][]Block{x}, [][]Block{y}, 0.05).Half)
		}
		name := fmt.Sprintf("%d documents, lengths %g, tails %g", c.documents, c.spread, c.tails)
		t.Logf("%s: %.1f%%", name, 100*float64(held)/texts)
		between(t, name+": intervals that hold", float64(held)/texts, 0.935, c.most)
	}
}
