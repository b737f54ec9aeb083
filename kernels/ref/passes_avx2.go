//go:build goexperiment.simd && amd64

// Code generated from passes_avx512.go by TestPasses; DO NOT EDIT.

package ref

import "simd/archsimd"

func add8(out, x, y []float32) {
	x, y = x[:len(out)], y[:len(out)]
	i := 0
	for ; i+8 <= len(out); i += 8 {
		load8(x[i:]).Add(load8(y[i:])).StoreSlice(out[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.add(out[i:], x[i:], y[i:])
}

func scale8(x []float32, a float32) {
	va := all8(a)
	i := 0
	for ; i+8 <= len(x); i += 8 {
		load8(x[i:]).Mul(va).StoreSlice(x[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.scale(x[i:], a)
}

func dot8(x, y []float32) float32 {
	y = y[:len(x)]
	var s, t f8
	i := 0
	for ; i+16 <= len(x); i += 16 {
		s = load8(x[i:]).MulAdd(load8(y[i:]), s)
		t = load8(x[i+8:]).MulAdd(load8(y[i+8:]), t)
	}
	for ; i+8 <= len(x); i += 8 {
		s = load8(x[i:]).MulAdd(load8(y[i:]), s)
	}
	return sum8(s.Add(t)) + scalar.dot(x[i:], y[i:])
}

func squares8(x []float32) float64 {
	var s, t archsimd.Float64x4
	i := 0
	for ; i+8 <= len(x); i += 8 {
		v := load8(x[i:])
		lo, hi := v.GetLo().ConvertToFloat64(), v.GetHi().ConvertToFloat64()
		s, t = lo.MulAdd(lo, s), hi.MulAdd(hi, t)
	}
	var lanes [4]float64
	s.Add(t).Store(&lanes)
	archsimd.ClearAVXUpperBits()
	sum := scalar.squares(x[i:])
	for _, v := range lanes {
		sum += v
	}
	return sum
}

func ds8(dp, p []float32, delta, a float32) {
	p = p[:len(dp)]
	vd, va := all8(delta), all8(a)
	i := 0
	for ; i+8 <= len(dp); i += 8 {
		load8(dp[i:]).Sub(vd).Mul(load8(p[i:]).Mul(va)).StoreSlice(dp[i:])
	}
	if i < len(dp) {
		d := archsimd.LoadFloat32x8SlicePart(dp[i:]).Sub(vd)
		d.Mul(archsimd.LoadFloat32x8SlicePart(p[i:]).Mul(va)).StoreSlicePart(dp[i:])
	}
	archsimd.ClearAVXUpperBits()
}

func norm8(y, x, w []float32, r float32) {
	x, w = x[:len(y)], w[:len(y)]
	vr := all8(r)
	i := 0
	for ; i+8 <= len(y); i += 8 {
		load8(x[i:]).Mul(vr).Mul(load8(w[i:])).StoreSlice(y[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.norm(y[i:], x[i:], w[i:], r)
}

func dot38(x, y, z []float32) float32 {
	y, z = y[:len(x)], z[:len(x)]
	var s f8
	i := 0
	for ; i+8 <= len(x); i += 8 {
		s = load8(x[i:]).Mul(load8(y[i:])).MulAdd(load8(z[i:]), s)
	}
	return sum8(s) + scalar.dot3(x[i:], y[i:], z[i:])
}

func dnorm8(dx, dw, x, w, dy []float32, r, c float32) {
	dw, x, w, dy = dw[:len(dx)], x[:len(dx)], w[:len(dx)], dy[:len(dx)]
	vr, vc := all8(r), all8(-c)
	i := 0
	for ; i+8 <= len(dx); i += 8 {
		vx, d := load8(x[i:]), load8(dy[i:]).Mul(vr)
		d.MulAdd(load8(w[i:]), vx.MulAdd(vc, load8(dx[i:]))).StoreSlice(dx[i:])
		d.MulAdd(vx, load8(dw[i:])).StoreSlice(dw[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.dnorm(dx[i:], dw[i:], x[i:], w[i:], dy[i:], r, c)
}

func rotate8(y, x, cos, sin []float32, sign float32) {
	h := len(y) / 2
	if h%8 != 0 {
		scalar.rotate(y, x, cos, sin, sign)
		return
	}
	vs := all8(sign)
	y2, x2 := y[h:], x[h:]
	for i := 0; i < h; i += 8 {
		a, b, c, s := load8(x[i:]), load8(x2[i:]), load8(cos[i:]), load8(sin[i:]).Mul(vs)
		a.Mul(c).Sub(b.Mul(s)).StoreSlice(y[i:])
		b.Mul(c).Add(a.Mul(s)).StoreSlice(y2[i:])
	}
	archsimd.ClearAVXUpperBits()
}

func gate8(y, g, u, e []float32) {
	g, u, e = g[:len(y)], u[:len(y)], e[:len(y)]
	one := all8(1)
	i := 0
	for ; i+8 <= len(y); i += 8 {
		load8(g[i:]).Mul(load8(u[i:])).Div(load8(e[i:]).Add(one)).StoreSlice(y[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.gate(y[i:], g[i:], u[i:], e[i:])
}

func dgate8(dg, du, g, u, dy, e []float32) {
	du, g, u, dy, e = du[:len(dg)], g[:len(dg)], u[:len(dg)], dy[:len(dg)], e[:len(dg)]
	one := all8(1)
	i := 0
	for ; i+8 <= len(dg); i += 8 {
		vg, vu, s := load8(g[i:]), load8(u[i:]), one.Div(load8(e[i:]).Add(one))
		d := load8(dy[i:]).Mul(s)
		d.Mul(vg).StoreSlice(du[i:])
		d.Mul(vu).Mul(one.Sub(s).MulAdd(vg, one)).StoreSlice(dg[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.dgate(dg[i:], du[i:], g[i:], u[i:], dy[i:], e[i:])
}

func open8(y, o, e []float32) {
	o, e = o[:len(y)], e[:len(y)]
	one := all8(1)
	i := 0
	for ; i+8 <= len(y); i += 8 {
		load8(o[i:]).Div(load8(e[i:]).Add(one)).StoreSlice(y[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.open(y[i:], o[i:], e[i:])
}

func dopen8(do, dg, o, dy, e []float32) {
	dg, o, dy, e = dg[:len(do)], o[:len(do)], dy[:len(do)], e[:len(do)]
	one := all8(1)
	i := 0
	for ; i+8 <= len(do); i += 8 {
		s := one.Div(load8(e[i:]).Add(one))
		d := load8(dy[i:]).Mul(s)
		vo := load8(o[i:])
		d.StoreSlice(do[i:])
		d.Mul(vo).Mul(one.Sub(s)).StoreSlice(dg[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.dopen(do[i:], dg[i:], o[i:], dy[i:], e[i:])
}

func adamw8(w, g, m, v []float32, h *adamwStep, keep float32) {
	g, m, v = g[:len(w)], m[:len(w)], v[:len(w)]
	scale, b1, b1c, b2, b2c := all8(h.scale), all8(h.beta1), all8(h.beta1c), all8(h.beta2), all8(h.beta2c)
	lr, root, eps, vk := all8(h.lr), all8(h.root), all8(h.eps), all8(keep)
	i := 0
	for ; i+8 <= len(w); i += 8 {
		vg := load8(g[i:]).Mul(scale)
		vm := load8(m[i:]).MulAdd(b1, vg.Mul(b1c))
		vv := load8(v[i:]).MulAdd(b2, vg.Mul(vg).Mul(b2c))
		vm.StoreSlice(m[i:])
		vv.StoreSlice(v[i:])
		load8(w[i:]).Mul(vk).Sub(vm.Mul(lr).Div(vv.Sqrt().MulAdd(root, eps))).StoreSlice(w[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.adamw(w[i:], g[i:], m[i:], v[i:], h, keep)
}
