package ref

import "testing"

// slope gives the derivative of f by every word of x, by central differences in float64.
func slope(f func() float64, x []float64) []float64 {
	const h = 1e-5
	d := make([]float64, len(x))
	for i, v := range x {
		x[i] = v + h
		up := f()
		x[i] = v - h
		d[i] = (up - f()) / (2 * h)
		x[i] = v
	}
	return d
}

func dot64(x, y []float64) float64 {
	s := 0.0
	for i := range x {
		s += x[i] * y[i]
	}
	return s
}

// twice runs a kernel again over rubbish and wants the same bits.
func twice(t *testing.T, k runner, outs ...[]float32) {
	t.Helper()
	k.Run()
	var first [][]float32
	for _, o := range outs {
		first = append(first, append([]float32(nil), o...))
		for i := range o {
			o[i] = -sentinel
		}
	}
	k.Run()
	for i, o := range outs {
		for j := range o {
			if o[j] != first[i][j] {
				t.Fatalf("%T: output %d[%d] = %g, then %g", k, i, j, first[i][j], o[j])
			}
		}
	}
}

// accumulates runs a kernel that adds onto ones and wants one more than want.
func accumulates(t *testing.T, what string, k runner, out []float32, want []float64, tol float64) {
	t.Helper()
	more := make([]float64, len(want))
	for i := range out {
		out[i], more[i] = 1, want[i]+1
	}
	k.Run()
	near(t, what+" accumulated", out, more, tol)
}

// Every kernel works without allocating after its first run.
func TestNoAllocations(t *testing.T) {
	s := newStep(shape{L: 1, C: 16, H: 2, D: 8, F: 24, B: 2, T: 70, V: 11})
	for _, c := range s.calls {
		if _, ok := c.r.(*Gemm); ok && BLAS != "openblas" || c.name == "classifier" && BLAS != "openblas" ||
			BLAS != "openblas" && (c.name == "attention" || c.name == "attention grad") {
			continue // gonum's product starts goroutines
		}
		if n := testing.AllocsPerRun(20, c.r.Run); n != 0 {
			t.Errorf("%s allocates %g times", c.name, n)
		}
	}
	s.src.check(t)
}
