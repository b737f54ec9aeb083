package ref

import (
	"cmp"
	"math"
	"slices"
)

// A StepSampling says how a row's token is drawn. TopK, TopP of 0 or 1, MinP of 0 and Repetition of 0 or 1 change
// nothing; a Temperature of 0 takes the largest logit, the first of equals.
type StepSampling struct {
	Temperature, TopP, MinP, Repetition float32
	TopK                                int32
	U                                   float64 // where in the distribution, from [0, 1)
}

// A StepSample draws a token for each row of Logits [Rows, V]: logits of the tokens whose bit is set in Seen [Rows,
// ceil(V/32)] (or nil) are divided by the repetition penalty where positive and multiplied by it where not, then
// divided by the temperature; of the probabilities the TopK largest stay, of these the fewest that make TopP, of these
// those of at least MinP times the largest; and the token is the first, in their order, at which their sum exceeds the
// part U of all. Equals stay by their order. Tokens [Rows] gets the tokens, Seen their bits.
type StepSample struct {
	Rows, V int
	Logits  []float32
	Choices []StepSampling
	Seen    []uint32
	Tokens  []int32
}

// Run executes the kernel on all cores.
func (k *StepSample) Run() { parallel(k, k.Rows, 1) }

func (k *StepSample) span(_ *worker, lo, hi int) {
	words := (k.V + 31) / 32
	for r := lo; r < hi; r++ {
		c := k.Choices[r]
		l := make([]float64, k.V)
		for i, v := range k.Logits[r*k.V:][:k.V] {
			l[i] = float64(v)
			if k.Seen != nil && c.Repetition != 0 && c.Repetition != 1 && k.Seen[r*words+i/32]>>(i%32)&1 == 1 {
				if l[i] > 0 {
					l[i] /= float64(c.Repetition)
				} else {
					l[i] *= float64(c.Repetition)
				}
			}
		}
		token := c.token(l)
		k.Tokens[r] = int32(token)
		if k.Seen != nil {
			k.Seen[r*words+token/32] |= 1 << (token % 32)
		}
	}
}

// token draws from logits, which it turns into weights.
func (c StepSampling) token(p []float64) int {
	best := 0
	for i, l := range p {
		if l > p[best] {
			best = i
		}
	}
	if !(c.Temperature > 0) {
		return best
	}
	top := p[best]
	for i, l := range p {
		p[i] = math.Exp((l - top) / float64(c.Temperature))
	}
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[b], p[a]) })
	keep := len(p)
	if c.TopK > 0 {
		keep = min(keep, int(c.TopK))
	}
	if c.TopP > 0 && c.TopP < 1 {
		all, sum := 0.0, 0.0
		for _, i := range order[:keep] {
			all += p[i]
		}
		for n, i := range order[:keep] {
			if sum += p[i]; sum >= float64(c.TopP)*all {
				keep = n + 1
				break
			}
		}
	}
	for _, i := range order[keep:] {
		p[i] = 0
	}
	all := 0.0
	for i, v := range p {
		if v < float64(c.MinP) {
			p[i] = 0
		}
		all += p[i]
	}
	at, last := c.U*all, best
	for i, v := range p {
		if v > 0 {
			if last = i; at < v {
				break
			}
			at -= v
		}
	}
	return last
}
