package eval

import "math"

// A Text is how far a difference would move on other texts of the same kind, seen from the documents of this one: half
// of an interval of the same coverage as that over the seeds.
type Text struct {
	Half      float64 `json:"half"`
	Documents int     `json:"blocks"` // documents, or groups of them
}

// textual estimates what the documents do to the mean difference of some pairs of results: to that of all tokens, from
// the mean differences of blocks that are as good as drawn at random. Nil where the blocks are unknown or those of
// different texts.
func textual(x, y [][]Block, alpha float64) *Text {
	if len(x) == 0 || len(x) != len(y) || len(x[0]) < 2 {
		return nil
	}
	n := len(x[0])
	part, difference := make([]float64, n), make([]float64, n) // of the tokens, and in nats a token
	total := 0.0
	for i := range x {
		if len(x[i]) != n || len(y[i]) != n {
			return nil
		}
		for b := range n {
			if x[i][b].Tokens != x[0][b].Tokens || y[i][b].Tokens != x[0][b].Tokens {
				return nil
			}
			difference[b] += (x[i][b].NLL - y[i][b].NLL) / float64(len(x)) / float64(x[0][b].Tokens)
		}
	}
	for _, b := range x[0] {
		total += float64(b.Tokens)
	}
	for b := range n {
		part[b] = float64(x[0][b].Tokens) / total
	}
	deviation, freedom := weighted(difference, part)
	return &Text{student(freedom).Quantile(1-alpha/2) * deviation, n}
}

// weighted is the standard error of a mean with weights that add up to one, and its degrees of freedom. A long document
// pulls the mean to itself, so that its distance from it seems small; the sum of squares is divided by what it would be
// if all documents scattered alike. The degrees of freedom are those of as many documents as equal ones would tell as
// much. With equal weights both are as ever.
func weighted(x, weight []float64) (deviation, freedom float64) {
	mean, whole := 0.0, 0.0
	for i, w := range weight {
		mean, whole = mean+w*x[i], whole+w*w
	}
	sum, expected := 0.0, 0.0
	for i, w := range weight {
		sum += w * w * (x[i] - mean) * (x[i] - mean)
		expected += w * w * (1 + whole - 2*w)
	}
	return math.Sqrt(whole * sum / expected), max(1, 1/whole-1)
}
