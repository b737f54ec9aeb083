package ref

import (
	"math"
	"unsafe"
)

// A vector is one implementation of the row passes. All slices of a call have the length of the first.
type vector struct {
	name string

	add     func(out, x, y []float32)                            // out = x + y
	scale   func(x []float32, a float32)                         // x *= a
	dot     func(x, y []float32) float32                         // Σ x·y
	squares func(x []float32) float64                            // Σ x², in float64
	max     func(x []float32) float32                            // the largest word
	exp     func(y, x []float32, a, b float32) float32           // y = exp(a·x + b), returns Σ y
	ds      func(dp, p []float32, delta, a float32)              // dp = a·p·(dp - delta)
	norm    func(y, x, w []float32, r float32)                   // y = r·x·w
	dot3    func(x, y, z []float32) float32                      // Σ x·y·z
	dnorm   func(dx, dw, x, w, dy []float32, r, c float32)       // dx += r·w·dy - c·x; dw += r·x·dy
	rotate  func(y, x, cos, sin []float32, sign float32)         // halves: y1 = x1·cos - x2·sin, y2 = x2·cos + x1·sin
	gate    func(y, g, u, e []float32)                           // y = g·u/(1+e)
	dgate   func(dg, du, g, u, dy, e []float32)                  // gradients of gate, with e = exp(-g)
	open    func(y, o, e []float32)                              // y = o/(1+e)
	dopen   func(do, dg, o, dy, e []float32)                     // gradients of open, with e = exp(-g)
	adamw   func(w, g, m, v []float32, h *adamwStep, wd float32) // see AdamW
}

// vec is the best implementation that this machine can run.
var vec = vectors()[len(vectors())-1]

// expLow is where the exponential becomes 0: what lies below is lost in every sum, and the subnormal words that it
// would leave in the gradients slowed the products of the classifier five times.
const expLow = -70

// scalar is the plain Go implementation, and the reference of the others.
var scalar = vector{
	name: "scalar",
	add: func(out, x, y []float32) {
		for i := range out {
			out[i] = x[i] + y[i]
		}
	},
	scale: func(x []float32, a float32) {
		for i := range x {
			x[i] *= a
		}
	},
	dot: func(x, y []float32) float32 {
		var s float32
		for i := range x {
			s += x[i] * y[i]
		}
		return s
	},
	squares: func(x []float32) float64 {
		var s float64
		for _, v := range x {
			s += float64(v) * float64(v)
		}
		return s
	},
	max: func(x []float32) float32 {
		m := x[0]
		for _, v := range x[1:] {
			m = max(m, v)
		}
		return m
	},
	exp: func(y, x []float32, a, b float32) float32 {
		var s float32
		for i := range y {
			v := a*x[i] + b // y may be x
			y[i] = 0
			if !(v < expLow) {
				y[i] = float32(math.Exp(float64(v)))
			}
			s += y[i]
		}
		return s
	},
	ds: func(dp, p []float32, delta, a float32) {
		for i := range dp {
			dp[i] = a * p[i] * (dp[i] - delta)
		}
	},
	norm: func(y, x, w []float32, r float32) {
		for i := range y {
			y[i] = r * x[i] * w[i]
		}
	},
	dot3: func(x, y, z []float32) float32 {
		var s float32
		for i := range x {
			s += x[i] * y[i] * z[i]
		}
		return s
	},
	dnorm: func(dx, dw, x, w, dy []float32, r, c float32) {
		for i := range dx {
			dx[i] += r*w[i]*dy[i] - c*x[i]
			dw[i] += r * x[i] * dy[i]
		}
	},
	rotate: func(y, x, cos, sin []float32, sign float32) {
		h := len(y) / 2
		for i := range h {
			x1, x2, c, s := x[i], x[h+i], cos[i], sign*sin[i]
			y[i], y[h+i] = x1*c-x2*s, x2*c+x1*s
		}
	},
	gate: func(y, g, u, e []float32) {
		for i := range y {
			y[i] = g[i] * u[i] / (1 + e[i])
		}
	},
	dgate: func(dg, du, g, u, dy, e []float32) {
		for i := range dg {
			gi, ui, d, s := g[i], u[i], dy[i], 1/(1+e[i])
			du[i] = d * gi * s
			dg[i] = d * ui * s * (1 + gi*(1-s))
		}
	},
	open: func(y, o, e []float32) {
		for i := range y {
			y[i] = o[i] / (1 + e[i])
		}
	},
	dopen: func(do, dg, o, dy, e []float32) {
		for i := range do {
			s := 1 / (1 + e[i])
			d := dy[i] * s
			do[i], dg[i] = d, d*o[i]*(1-s)
		}
	},
	adamw: func(w, g, m, v []float32, h *adamwStep, wd float32) {
		for i := range w {
			gi := g[i] * h.scale
			m[i] = h.beta1*m[i] + h.beta1c*gi
			v[i] = h.beta2*v[i] + h.beta2c*gi*gi
			w[i] = wd*w[i] - h.lr*m[i]/(float32(math.Sqrt(float64(v[i])))*h.root+h.eps)
		}
	},
}

// aligned returns n zeroed words that begin at a cache line.
func aligned(n int) []float32 {
	const line = 16
	x := make([]float32, n+line)
	skip := -int(uintptr(unsafe.Pointer(&x[0]))/4) & (line - 1)
	return x[skip : skip+n : skip+n]
}
