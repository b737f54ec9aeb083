package eval

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestTextByHand: two blocks of 10 and 30 tokens on which the arms differ by 2 and 2 nats, in the mean over two seeds.
func TestTextByHand(t *testing.T) {
	x := [][]Block{{{10, 21}, {30, 62}}, {{10, 23}, {30, 62}}}
	y := [][]Block{{{10, 20}, {30, 60}}, {{10, 20}, {30, 60}}}
	got := textual(x, y, 0.05)
	// The ratio is 4/40 = 0.1; what is left is 2 - 1 and 2 - 3, so that the deviation is sqrt(2·2)/40; t(0.975, 1) = 12.7062.
	near(t, "half", got.Half, 12.7062*math.Sqrt(4)/40, 1e-5)
	if got.Documents != 2 {
		t.Errorf("%+v", got)
	}
	y[1][0].Tokens = 11
	if textual(x, y, 0.05) != nil || textual(x, y[:1], 0.05) != nil || textual(nil, nil, 0.05) != nil {
		t.Error("results of different texts are taken together")
	}
}

// TestTextCovers: of texts drawn from one kind, the interval holds the difference of the kind 95% of the time.
func TestTextCovers(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 3))
	const texts, truth = 2000, 0.01
	held := 0
	for range texts {
		var x, y []Block
		for range 40 {
			n := 500 + r.Int64N(1000)
			common := float64(n) * (3 + 0.3*r.NormFloat64())
			x = append(x, Block{n, common + float64(n)*(truth+0.02*r.NormFloat64())})
			y = append(y, Block{n, common})
		}
		sum, total := 0.0, 0.0
		for i := range x {
			sum, total = sum+x[i].NLL-y[i].NLL, total+float64(x[i].Tokens)
		}
		if d := textual([][]Block{x}, [][]Block{y}, 0.05); math.Abs(sum/total-truth) < d.Half {
			held++
		}
	}
	near(t, "coverage", float64(held)/texts, 0.95, 0.015)
}
