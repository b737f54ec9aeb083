package ref

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// sizes are the awkward lengths round the width of a vector and of a tile.
var sizes = []int{1, 3, 15, 16, 17, 63, 64, 65, 127}

const sentinel = float32(12345.678)

// A source makes test data; its slices end in guard words that a kernel must not touch.
type source struct {
	*rand.Rand
	guards [][]float32
	words  [][]float32 // all that lies between the guards
}

func newSource(seed uint64) *source { return &source{Rand: rand.New(rand.NewPCG(seed, 7))} }

// normal returns n normal words.
func (s *source) normal(n int) []float32 {
	x := s.guarded(n)
	for i := range x {
		x[i] = float32(s.NormFloat64())
	}
	return x
}

// guarded returns n words of rubbish between guards.
func (s *source) guarded(n int) []float32 {
	const g = 32
	x := make([]float32, n+2*g)
	for i := range x {
		x[i] = sentinel
	}
	s.guards = append(s.guards, x[:g:g], x[g+n:])
	s.words = append(s.words, x[g:g+n:g+n])
	return x[g : g+n : g+n]
}

func (s *source) check(t *testing.T) {
	t.Helper()
	for _, g := range s.guards {
		for _, v := range g {
			if v != sentinel {
				t.Fatal("a kernel wrote outside its output")
			}
		}
	}
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// near compares with an error relative to the largest wanted word, or to 0.1 where sums of words of order 1 cancel.
func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	top := 0.1
	for _, v := range want {
		top = max(top, math.Abs(v))
	}
	for i := range want {
		if d := math.Abs(float64(got[i]) - want[i]); !(d <= tol*top) {
			t.Fatalf("%s[%d] = %g, want %g (off by %.2g of the largest, allowed %.2g)", what, i, got[i], want[i], d/top, tol)
		}
	}
}

// Every implementation of the row passes gives what plain Go gives, at every awkward length, and stays inside its
// output.
func TestVectorTwins(t *testing.T) {
	for _, v := range vectors()[1:] {
		for _, n := range sizes {
			t.Run(fmt.Sprintf("%s/%d", v.name, n), func(t *testing.T) { twin(t, v, n) })
		}
	}
}

func twin(t *testing.T, v vector, n int) {
	s := newSource(uint64(n))
	x, y, z, u, e := s.normal(n), s.normal(n), s.normal(n), s.normal(n), s.normal(n)
	for i := range e {
		e[i] *= e[i]
	}
	step := adamwStep{lr: 0.1, beta1: 0.9, beta1c: 0.1, beta2: 0.95, beta2c: 0.05, eps: 1e-8, scale: 0.7,
		root: 1.3, keep: 0.99}
	passes := map[string]func(v vector, out, more, third []float32){
		"add":   func(v vector, out, _, _ []float32) { v.add(out, x, y) },
		"scale": func(v vector, out, _, _ []float32) { copy(out, x); v.scale(out, 1.7) },
		"exp": func(v vector, out, more, third []float32) {
			more[0] = v.exp(out, x, 3, -0.5)
			copy(third, x)
			v.exp(third, third, 3, -0.5)
		},
		"ds":   func(v vector, out, _, _ []float32) { copy(out, x); v.ds(out, y, 0.3, 0.7) },
		"norm": func(v vector, out, _, _ []float32) { v.norm(out, x, y, 0.7) },
		"dnorm": func(v vector, out, more, _ []float32) {
			copy(out, u)
			copy(more, e)
			v.dnorm(out, more, x, y, z, 0.7, 0.4)
		},
		"gate":  func(v vector, out, _, _ []float32) { v.gate(out, x, y, e) },
		"dgate": func(v vector, out, more, _ []float32) { v.dgate(out, more, x, y, z, e) },
		"open":  func(v vector, out, _, _ []float32) { v.open(out, x, e) },
		"dopen": func(v vector, out, more, _ []float32) { v.dopen(out, more, x, y, e) },
		"adamw": func(v vector, out, more, third []float32) {
			copy(out, x)
			copy(more, y)
			copy(third, e)
			v.adamw(out, z, more, third, &step, step.keep)
		},
		"rotate": func(v vector, out, _, _ []float32) {
			if n%2 == 0 {
				v.rotate(out, x, y, z, -1)
			}
		},
		"sums": func(v vector, out, more, third []float32) {
			out[0], more[0], third[0] = v.dot(x, y), v.max(x), v.dot3(x, y, z)
		},
		"squares": func(v vector, out, _, _ []float32) { out[0] = float32(v.squares(x)) },
	}
	for name, pass := range passes {
		a, b := [3][]float32{}, [3][]float32{}
		for i := range a {
			a[i], b[i] = s.guarded(n), s.guarded(n)
		}
		pass(v, a[0], a[1], a[2])
		pass(scalar, b[0], b[1], b[2])
		for i := range a {
			near(t, fmt.Sprintf("%s output %d", name, i), a[i], wide(b[i]), 2e-6)
		}
	}
	s.check(t)
}

// The exponential is good to a few units of the last place where its result is a normal number, and keeps a NaN.
func TestExp(t *testing.T) {
	for _, v := range vectors() {
		var x, y [33]float32
		for at := expLow + 0.01; at < 88; at += 0.37 {
			for i := range x {
				x[i] = float32(at) + float32(i)*0.011
			}
			v.exp(y[:], x[:], 1, 0)
			for i := range x {
				if want := math.Exp(float64(x[i])); math.Abs(float64(y[i])/want-1) > 3e-7 {
					t.Fatalf("%s: exp(%g) = %g, want %g", v.name, x[i], y[i], want)
				}
			}
		}
		for i, bad := range []float32{float32(math.NaN()), -1e30, 1e30, float32(math.Inf(-1))} {
			for j := range x {
				x[j] = bad
			}
			v.exp(y[:], x[:], 1, 0)
			for j := range y {
				if ok := []bool{y[j] != y[j], y[j] == 0, y[j] > 1e38, y[j] == 0}[i]; !ok {
					t.Errorf("%s: exp(%g) = %g", v.name, bad, y[j])
				}
			}
		}
	}
}
