package decode

import (
	"fmt"
	"math"
	"slices"

	"headroom/kernels/ref"
)

// A Guess is a token with its log probability.
type Guess struct {
	Token   int32
	LogProb float32
}

// A Score is the log probability of a token by the softmax of the model's logits, before any sampling. Top has the
// likeliest tokens at the same place, best first; where the token is among them, its number is the very same.
type Score struct {
	LogProb float32
	Top     []Guess
}

// judge scores a token by the logits of the last pass's scored token at.
func (e *Engine) judge(s *Sequence, at int, token int32) error {
	logits, err := e.device.Scores(at)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	total := logSum(logits)
	score := Score{LogProb: float32(float64(logits[token]) - total)}
	for _, i := range largest(logits, s.Top) {
		score.Top = append(score.Top, Guess{i, float32(float64(logits[i]) - total)})
	}
	s.Scores = append(s.Scores, score)
	return nil
}

// logSum is the logarithm of the sum of e^x, the same on any number of cores.
func logSum(x []float32) float64 {
	const block = 8192
	top := slices.Max(x)
	sums := make([]float64, (len(x)+block-1)/block)
	ref.Spans(len(sums), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			for _, v := range x[i*block : min((i+1)*block, len(x))] {
				sums[i] += float64(ref.Exp(v - top))
			}
		}
	})
	var sum float64
	for _, s := range sums {
		sum += s
	}
	return float64(top) + math.Log(sum)
}

// largest are the places of the n largest of x, the first of equals first.
func largest(x []float32, n int) []int32 {
	n = min(n, len(x))
	best := make([]int32, 0, n+1)
	for i, v := range x {
		if n == 0 || len(best) == n && v <= x[best[n-1]] {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, v, func(b int32, v float32) int {
			if x[b] >= v {
				return -1
			}
			return 1
		})
		best = slices.Insert(best, at, int32(i))[:min(len(best)+1, n)]
	}
	return best
}
