package watch

// A Point is the mean of one or more steps: step, tokens, loss, learning rate, gradient norm, tokens a second, bytes of
// memory.
type Point [7]float64

// An Eval is one measurement of one set.
type Eval struct {
	Step       int     `json:"step"`
	Tokens     int64   `json:"tokens"`
	Set        string  `json:"set"`
	Perplexity float64 `json:"perplexity"`
}

// most is how many points of a run are kept: twice what a chart is wide.
const most = 1024

// A series is the curve of a run. Where it grows longer than most, pairs of points become one.
type series struct {
	points []Point
	each   int // steps of a whole point
	last   int // steps of the last point
	born   int // counts how often pairs of points were merged
	evals  []Eval
}

func (s *series) reset() { *s = series{born: s.born + 1} }

func (s *series) add(p Point) {
	s.each = max(s.each, 1)
	if n := len(s.points); n > 0 && s.last < s.each {
		s.last++
		s.points[n-1] = mean(s.points[n-1], p, 1/float64(s.last))
		return
	}
	if len(s.points) == most {
		for i := range most / 2 {
			s.points[i] = mean(s.points[2*i], s.points[2*i+1], 0.5)
		}
		s.points = s.points[:most/2]
		s.each *= 2
		s.born++
	}
	s.points, s.last = append(s.points, p), 1
}

// mean is p + share·(q - p), with the steps and tokens of q, the later.
func mean(p, q Point, share float64) Point {
	m := q
	for i := 2; i < len(m); i++ {
		m[i] = p[i] + (q[i]-p[i])*share
	}
	return m
}
