package ref

import "math"

// A Rotary says how fast the R/2 pairs of a rotary embedding turn: pair i by Theta^(-2i/R) a position. Where Factor is
// not 0, the slow pairs turn slower, as Llama 3.1 has it for contexts longer than those it was first trained on: a pair
// that turns less than Low times within Context positions turns by 1/Factor of that, one that turns more than High
// times turns as it did, and between them the frequency goes linearly, in the number of turns, from one to the other.
type Rotary struct {
	Theta float64

	Factor, Low, High float64
	Context           int
}

// Frequency is the angle by which pair i of R/2 turns from one position to the next.
func (r Rotary) Frequency(i, R int) float64 {
	return math.Pow(r.Theta, -2*float64(i)/float64(R)) / r.Slowed(i, R)
}

// Slowed is how many times slower pair i of R/2 turns than it does without scaling: 1 where nothing is scaled.
func (r Rotary) Slowed(i, R int) float64 {
	if r.Factor == 0 {
		return 1
	}
	turns := float64(r.Context) * math.Pow(r.Theta, -2*float64(i)/float64(R)) / (2 * math.Pi)
	kept := min(1, max(0, (turns-r.Low)/(r.High-r.Low)))
	return 1 / (kept + (1-kept)/r.Factor)
}
