package ref

import (
	"fmt"
	"math"
	"testing"
)

func TestStepSample(t *testing.T) {
	ln := func(p ...float64) (l []float32) {
		for _, v := range p {
			l = append(l, float32(math.Log(v)))
		}
		return l
	}
	base := ln(0.1, 0.4, 0.2, 0.3)
	for _, c := range []struct {
		name   string
		s      StepSampling
		logits []float32
		seen   uint32
		want   [4]int // of 1000 draws, evenly over [0, 1)
	}{
		{"greedy takes the first of equals", StepSampling{}, []float32{1, 3, 3, 2}, 0, [4]int{0, 1000}},
		{"plain", StepSampling{Temperature: 1}, base, 0, [4]int{100, 400, 200, 300}},
		{"temperature 1/2 squares", StepSampling{Temperature: 0.5}, base, 0, [4]int{33, 534, 133, 300}},
		{"top-k", StepSampling{Temperature: 1, TopK: 2}, base, 0, [4]int{0, 571, 0, 429}},
		{"top-k of equals takes the first", StepSampling{Temperature: 1, TopK: 2}, []float32{1, 2, 1, 1}, 0,
			[4]int{269, 731, 0, 0}},
		{"top-p takes the one that reaches it", StepSampling{Temperature: 1, TopP: 0.65}, base, 0, [4]int{0, 571, 0, 429}},
		{"top-p that is reached exactly takes no more", StepSampling{Temperature: 1, TopP: 0.5}, []float32{2, 2, 2, 2}, 0,
			[4]int{500, 500, 0, 0}},
		{"min-p 1 keeps equals of the largest", StepSampling{Temperature: 1, MinP: 1}, []float32{1, 3, 3, 2}, 0,
			[4]int{0, 500, 500, 0}},
		{"top-p after top-k", StepSampling{Temperature: 1, TopK: 2, TopP: 0.5}, base, 0, [4]int{0, 1000}},
		{"min-p", StepSampling{Temperature: 1, MinP: 0.6}, base, 0, [4]int{0, 571, 0, 429}},
		{"repetition", StepSampling{Repetition: 2}, []float32{3, 2, -1, 1}, 1, [4]int{0, 1000}},
		{"repetition of negatives", StepSampling{Repetition: 3}, []float32{-1, -2, -2.5, -4}, 1, [4]int{0, 1000}},
	} {
		var got [4]int
		for i := range 1000 {
			c.s.U = (float64(i) + 0.5) / 1000
			k := StepSample{Rows: 1, V: 4, Logits: c.logits, Choices: []StepSampling{c.s}, Seen: []uint32{c.seen},
				Tokens: make([]int32, 1)}
			k.Run()
			got[k.Tokens[0]]++
			if k.Seen[0] != c.seen|1<<k.Tokens[0] {
				t.Fatalf("%s: seen %b after token %d", c.name, k.Seen[0], k.Tokens[0])
			}
		}
		for i := range got {
			if d := got[i] - c.want[i]; d < -1 || d > 1 {
				t.Error(fmt.Sprint(c.name, ": ", got, ", want ", c.want))
				break
			}
		}
	}
}
