package eval

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// A Point is the training loss of one step.
type Point struct {
	Step   int     `json:"step"`
	Tokens int64   `json:"tokens"` // targets seen so far
	Loss   float64 `json:"loss"`
}

// A Curve is the training loss of one run of an arm, step by step.
type Curve struct {
	Arm    string
	Seed   uint64
	Points []Point
}

// ReadCurve reads the lines of a metrics.jsonl. Every step from the first must be there, once and in order.
func ReadCurve(r io.Reader) (points []Point, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var p Point
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return nil, fmt.Errorf("eval: line %d is no step: %w", len(points)+1, err)
		}
		if p.Step != len(points)+1 {
			return nil, fmt.Errorf("eval: line %d is step %d: every step must have its line", len(points)+1, p.Step)
		}
		if p.Tokens <= 0 || p.Loss == 0 {
			return nil, fmt.Errorf("eval: line %d has no loss or tokens: another version wrote it", len(points)+1)
		}
		points = append(points, p)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("eval: %w", err)
	}
	if len(points) == 0 {
		return nil, fmt.Errorf("eval: there are no steps")
	}
	return points, nil
}

// A spread is the mean over seeds at one place, between the lowest and the highest of them.
type spread struct{ x, mean, low, high float64 }

// spreads averages curves over groups of steps, up to where the shortest ends: each curve by itself first, then over
// the curves. x is in tokens.
func spreads(curves []Curve) (all []spread) {
	if len(curves) == 0 {
		return nil
	}
	steps := len(curves[0].Points)
	for _, c := range curves {
		steps = min(steps, len(c.Points))
	}
	n := min(60, max(steps/8, min(steps, 12))) // a batch alone is noise: eight or more to a group where there are enough
	for i := range n {
		from, to := i*steps/n, (i+1)*steps/n
		means := make([]float64, len(curves))
		for j, c := range curves {
			for _, p := range c.Points[from:to] {
				means[j] += p.Loss / float64(to-from)
			}
		}
		all = append(all, over(float64(curves[0].Points[to-1].Tokens), means))
	}
	return all
}

func over(x float64, values []float64) spread {
	s := spread{x, 0, values[0], values[0]}
	for _, v := range values {
		s.mean += v / float64(len(values))
		s.low, s.high = min(s.low, v), max(s.high, v)
	}
	return s
}

// Front marks the arms that no other arm of their size beats on a set: none has both a cache and a mean perplexity as
// small, and one of them smaller. An arm that was not measured is not on it.
func (c *Comparison) Front(set string) []bool {
	front := make([]bool, len(c.Arms))
	for i, a := range c.Arms {
		p, ok := a.Perplexity[set]
		front[i] = ok
		for _, b := range c.Arms {
			q, ok := b.Perplexity[set]
			if ok && b.Size == a.Size && b.CacheBytes <= a.CacheBytes && q <= p && (b.CacheBytes < a.CacheBytes || q < p) {
				front[i] = false
			}
		}
	}
	return front
}
