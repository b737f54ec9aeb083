package load

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Lengths is a distribution of token counts: uniform ranges, each with its weight.
type Lengths []span

type span struct {
	low, high int
	weight    float64
}

// most is the largest number of tokens that a plan may ask for.
const most = 1 << 24

// ParseLengths reads "512", "128-1024", or a mixture with weights, as in "128-1024:0.9,16384:0.1".
func ParseLengths(text string) (l Lengths, err error) {
	for _, part := range strings.Split(text, ",") {
		s := span{weight: 1}
		lengths, weight, weighed := strings.Cut(part, ":")
		low, high, ranged := strings.Cut(lengths, "-")
		if s.low, err = strconv.Atoi(low); err == nil {
			if s.high = s.low; ranged {
				s.high, err = strconv.Atoi(high)
			}
		}
		if err == nil && weighed {
			s.weight, err = strconv.ParseFloat(weight, 64)
		}
		if err != nil || s.low < 1 || s.high < s.low || s.high > most || !(s.weight > 0 && s.weight < 1e9) {
			return nil, fmt.Errorf("load: %q must be lengths as in 512, 128-1024 or 128-1024:0.9,16384:0.1, each at least 1",
				text)
		}
		l = append(l, s)
	}
	return l, nil
}

// draw draws one length.
func (l Lengths) draw(r *rand.Rand) int {
	var all float64
	for _, s := range l {
		all += s.weight
	}
	at := r.Float64() * all
	for _, s := range l {
		if at -= s.weight; at < 0 {
			return s.low + r.IntN(s.high-s.low+1)
		}
	}
	last := l[len(l)-1]
	return last.high
}

// Longest is the largest length that may be drawn.
func (l Lengths) Longest() (n int) {
	for _, s := range l {
		n = max(n, s.high)
	}
	return n
}
