package eval

import "math"

// A Text is how far a difference would move on other texts of the same kind, seen from the documents of this one: half of an interval of
// the same coverage as that over the seeds.
type Text struct {
	Half      float64 `json:"half"`
	Documents int     `json:"blocks"` // documents, or groups of them
}

// textual estimates what the documents do to the mean difference of some pairs of results: of the ratio of the difference in nats to the
// tokens, over blocks that are as good as drawn at random. Nil where the blocks are unknown or those of different texts.
func textual(x, y [][]Block, alpha float64) *Text {
	if len(x) == 0 || len(x) != len(y) || len(x[0]) < 2 {
		return nil
	}
	n := len(x[0])
	nats, tokens := make([]float64, n), make([]float64, n)
	sum, total := 0.0, 0.0
	for i := range x {
		if len(x[i]) != n || len(y[i]) != n {
			return nil
		}
		for b := range n {
			if x[i][b].Tokens != x[0][b].Tokens || y[i][b].Tokens != x[0][b].Tokens {
				return nil
			}
			nats[b] += (x[i][b].NLL - y[i][b].NLL) / float64(len(x))
		}
	}
	for b := range n {
		tokens[b] = float64(x[0][b].Tokens)
		sum, total = sum+nats[b], total+tokens[b]
	}
	rest := 0.0
	for b := range n {
		r := nats[b] - sum/total*tokens[b]
		rest += r * r
	}
	deviation := math.Sqrt(float64(n)/float64(n-1)*rest) / total
	return &Text{critical(n-1, alpha) * deviation, n}
}
