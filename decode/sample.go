package decode

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Sampling says how a token is drawn from its logits: the repetition penalty comes first, then the temperature, and of
// the probabilities the TopK largest, the fewest that make TopP, and those of at least MinP times the largest stay. The
// zero value is greedy: the largest logit, the first of equals.
type Sampling struct {
	Temperature float64 // 0 is greedy
	TopK        int     // 0 is all
	TopP        float64 // 0 is all
	MinP        float64
	// Repetition is a penalty: it divides the positive logits of tokens that were there before, and multiplies the
	// negative ones. 0 and 1 are none.
	Repetition float64
	Seed       uint64
}

// Validate states the rule that a value breaks.
func (s Sampling) Validate() error {
	switch {
	case !(s.Temperature >= 0 && s.Temperature <= 100):
		return fmt.Errorf("decode: temperature must be from 0 to 100, it is %v", s.Temperature)
	case s.TopK < 0:
		return fmt.Errorf("decode: top-k must not be negative, it is %d", s.TopK)
	case !(s.TopP >= 0 && s.TopP <= 1):
		return fmt.Errorf("decode: top-p must be from 0 to 1, it is %v", s.TopP)
	case !(s.MinP >= 0 && s.MinP <= 1):
		return fmt.Errorf("decode: min-p must be from 0 to 1, it is %v", s.MinP)
	case !(s.Repetition >= 0 && s.Repetition <= 100):
		return fmt.Errorf("decode: the repetition penalty must be from 0 to 100, it is %v", s.Repetition)
	}
	return nil
}

// Greedy says that the largest logit is taken as it stands.
func (s Sampling) Greedy() bool { return s.Temperature == 0 && !s.Penalizes() }

// next draws a token: the one that lies at u, from 0 to 1, of the distribution.
func (s Sampling) next(u float64, logits []float32, history []int32) int32 {
	if !s.Greedy() {
		return draw(u, s.odds(logits, history))
	}
	best := 0
	for i, l := range logits {
		if l > logits[best] {
			best = i
		}
	}
	return int32(best)
}

// odds is the distribution [V] that the next token is drawn from.
func (s Sampling) odds(logits []float32, history []int32) []float64 {
	p := make([]float64, len(logits))
	for i, l := range logits {
		p[i] = float64(l)
	}
	s.penalize(p, history)
	best := 0
	for i, l := range p {
		if l > p[best] {
			best = i
		}
	}
	if s.Temperature == 0 {
		clear(p)
		p[best] = 1
		return p
	}
	top := p[best]
	for i, l := range p {
		p[i] = math.Exp((l - top) / s.Temperature)
	}
	s.cut(p)
	var sum float64
	for _, v := range p {
		sum += v
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

// Penalizes says that tokens that were there before count.
func (s Sampling) Penalizes() bool { return s.Repetition != 0 && s.Repetition != 1 }

func (s Sampling) penalize(l []float64, history []int32) {
	if !s.Penalizes() {
		return
	}
	seen := map[int32]bool{}
	for _, t := range history {
		switch {
		case seen[t]:
		case l[t] > 0:
			l[t] /= s.Repetition
		default:
			l[t] *= s.Repetition
		}
		seen[t] = true
	}
}

// cut zeroes what top-k, top-p and min-p leave out of p, whose largest is 1.
func (s Sampling) cut(p []float64) {
	if s.TopK > 0 && s.TopK < len(p) || s.TopP > 0 && s.TopP < 1 {
		order := make([]int32, len(p))
		for i := range order {
			order[i] = int32(i)
		}
		slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(p[b], p[a]) })
		keep := len(p)
		if s.TopK > 0 {
			keep = min(keep, s.TopK)
		}
		if s.TopP > 0 && s.TopP < 1 {
			var sum, reached float64
			for _, i := range order[:keep] {
				sum += p[i]
			}
			for n, i := range order[:keep] {
				if reached += p[i]; reached >= s.TopP*sum {
					keep = n + 1
					break
				}
			}
		}
		for _, i := range order[keep:] {
			p[i] = 0
		}
	}
	for i, v := range p {
		if v < s.MinP {
			p[i] = 0
		}
	}
}

// draw picks the token at u, from 0 to 1, of weights that need not sum to 1.
func draw(u float64, p []float64) int32 {
	var sum float64
	for _, v := range p {
		sum += v
	}
	at, last := u*sum, 0
	for i, v := range p {
		if v <= 0 {
			continue
		}
		if last = i; at < v {
			break
		}
		at -= v
	}
	return int32(last)
}

// verify decides on a guess that was drawn from q (nil: it was certain), when p is right: it is taken with probability
// min(1, p/q), and otherwise the token is drawn from what p has over q. Then the token has distribution p whatever q
// is.
func verify(r *rand.Rand, p, q []float64, guess int32) (token int32, taken bool) {
	if q == nil {
		q = make([]float64, len(p))
		q[guess] = 1
	}
	if r.Float64()*q[guess] < p[guess] {
		return guess, true
	}
	rest := make([]float64, len(p))
	for i := range p {
		rest[i] = max(0, p[i]-q[i])
	}
	return draw(r.Float64(), rest), false
}
