//go:build goexperiment.simd && amd64

package ref

// These passes are the same for words of any width. passes_avx2.go is made from them, by
// GOEXPERIMENT=nosimd go test ./kernels/ref -run TestPasses -update.

import "simd/archsimd"

func add16(out, x, y []float32) {
	x, y = x[:len(out)], y[:len(out)]
	i := 0
	for ; i+16 <= len(out); i += 16 {
		load16(x[i:]).Add(load16(y[i:])).StoreSlice(out[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.add(out[i:], x[i:], y[i:])
}

func scale16(x []float32, a float32) {
	va := all16(a)
	i := 0
	for ; i+16 <= len(x); i += 16 {
		load16(x[i:]).Mul(va).StoreSlice(x[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.scale(x[i:], a)
}

func dot16(x, y []float32) float32 {
	y = y[:len(x)]
	var s, t f16
	i := 0
	for ; i+32 <= len(x); i += 32 {
		s = load16(x[i:]).MulAdd(load16(y[i:]), s)
		t = load16(x[i+16:]).MulAdd(load16(y[i+16:]), t)
	}
	for ; i+16 <= len(x); i += 16 {
		s = load16(x[i:]).MulAdd(load16(y[i:]), s)
	}
	return sum16(s.Add(t)) + scalar.dot(x[i:], y[i:])
}

func squares16(x []float32) float64 {
	var s, t archsimd.Float64x8
	i := 0
	for ; i+16 <= len(x); i += 16 {
		v := load16(x[i:])
		lo, hi := v.GetLo().ConvertToFloat64(), v.GetHi().ConvertToFloat64()
		s, t = lo.MulAdd(lo, s), hi.MulAdd(hi, t)
	}
	var lanes [8]float64
	s.Add(t).Store(&lanes)
	archsimd.ClearAVXUpperBits()
	sum := scalar.squares(x[i:])
	for _, v := range lanes {
		sum += v
	}
	return sum
}

func ds16(dp, p []float32, delta, a float32) {
	p = p[:len(dp)]
	vd, va := all16(delta), all16(a)
	i := 0
	for ; i+16 <= len(dp); i += 16 {
		load16(dp[i:]).Sub(vd).Mul(load16(p[i:]).Mul(va)).StoreSlice(dp[i:])
	}
	if i < len(dp) {
		d := archsimd.LoadFloat32x16SlicePart(dp[i:]).Sub(vd)
		d.Mul(archsimd.LoadFloat32x16SlicePart(p[i:]).Mul(va)).StoreSlicePart(dp[i:])
	}
	archsimd.ClearAVXUpperBits()
}

func norm16(y, x, w []float32, r float32) {
	x, w = x[:len(y)], w[:len(y)]
	vr := all16(r)
	i := 0
	for ; i+16 <= len(y); i += 16 {
		load16(x[i:]).Mul(vr).Mul(load16(w[i:])).StoreSlice(y[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.norm(y[i:], x[i:], w[i:], r)
}

func dot316(x, y, z []float32) float32 {
	y, z = y[:len(x)], z[:len(x)]
	var s f16
	i := 0
	for ; i+16 <= len(x); i += 16 {
		s = load16(x[i:]).Mul(load16(y[i:])).MulAdd(load16(z[i:]), s)
	}
	return sum16(s) + scalar.dot3(x[i:], y[i:], z[i:])
}

func dnorm16(dx, dw, x, w, dy []float32, r, c float32) {
	dw, x, w, dy = dw[:len(dx)], x[:len(dx)], w[:len(dx)], dy[:len(dx)]
	vr, vc := all16(r), all16(-c)
	i := 0
	for ; i+16 <= len(dx); i += 16 {
		vx, d := load16(x[i:]), load16(dy[i:]).Mul(vr)
		d.MulAdd(load16(w[i:]), vx.MulAdd(vc, load16(dx[i:]))).StoreSlice(dx[i:])
		d.MulAdd(vx, load16(dw[i:])).StoreSlice(dw[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.dnorm(dx[i:], dw[i:], x[i:], w[i:], dy[i:], r, c)
}

func rotate16(y, x, cos, sin []float32, sign float32) {
	h := len(y) / 2
	if h%16 != 0 {
		scalar.rotate(y, x, cos, sin, sign)
		return
	}
	vs := all16(sign)
	y2, x2 := y[h:], x[h:]
	for i := 0; i < h; i += 16 {
		a, b, c, s := load16(x[i:]), load16(x2[i:]), load16(cos[i:]), load16(sin[i:]).Mul(vs)
		a.Mul(c).Sub(b.Mul(s)).StoreSlice(y[i:])
		b.Mul(c).Add(a.Mul(s)).StoreSlice(y2[i:])
	}
	archsimd.ClearAVXUpperBits()
}

func gate16(y, g, u, e []float32) {
	g, u, e = g[:len(y)], u[:len(y)], e[:len(y)]
	one := all16(1)
	i := 0
	for ; i+16 <= len(y); i += 16 {
		load16(g[i:]).Mul(load16(u[i:])).Div(load16(e[i:]).Add(one)).StoreSlice(y[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.gate(y[i:], g[i:], u[i:], e[i:])
}

func dgate16(dg, du, g, u, dy, e []float32) {
	du, g, u, dy, e = du[:len(dg)], g[:len(dg)], u[:len(dg)], dy[:len(dg)], e[:len(dg)]
	one := all16(1)
	i := 0
	for ; i+16 <= len(dg); i += 16 {
		vg, vu, s := load16(g[i:]), load16(u[i:]), one.Div(load16(e[i:]).Add(one))
		d := load16(dy[i:]).Mul(s)
		d.Mul(vg).StoreSlice(du[i:])
		d.Mul(vu).Mul(one.Sub(s).MulAdd(vg, one)).StoreSlice(dg[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.dgate(dg[i:], du[i:], g[i:], u[i:], dy[i:], e[i:])
}

func open16(y, o, e []float32) {
	o, e = o[:len(y)], e[:len(y)]
	one := all16(1)
	i := 0
	for ; i+16 <= len(y); i += 16 {
		load16(o[i:]).Div(load16(e[i:]).Add(one)).StoreSlice(y[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.open(y[i:], o[i:], e[i:])
}

func dopen16(do, dg, o, dy, e []float32) {
	dg, o, dy, e = dg[:len(do)], o[:len(do)], dy[:len(do)], e[:len(do)]
	one := all16(1)
	i := 0
	for ; i+16 <= len(do); i += 16 {
		s := one.Div(load16(e[i:]).Add(one))
		d := load16(dy[i:]).Mul(s)
		vo := load16(o[i:])
		d.StoreSlice(do[i:])
		d.Mul(vo).Mul(one.Sub(s)).StoreSlice(dg[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.dopen(do[i:], dg[i:], o[i:], dy[i:], e[i:])
}

func adamw16(w, g, m, v []float32, h *adamwStep, keep float32) {
	g, m, v = g[:len(w)], m[:len(w)], v[:len(w)]
	scale, b1, b1c, b2, b2c := all16(h.scale), all16(h.beta1), all16(h.beta1c), all16(h.beta2), all16(h.beta2c)
	lr, root, eps, vk := all16(h.lr), all16(h.root), all16(h.eps), all16(keep)
	i := 0
	for ; i+16 <= len(w); i += 16 {
		vg := load16(g[i:]).Mul(scale)
		vm := load16(m[i:]).MulAdd(b1, vg.Mul(b1c))
		vv := load16(v[i:]).MulAdd(b2, vg.Mul(vg).Mul(b2c))
		vm.StoreSlice(m[i:])
		vv.StoreSlice(v[i:])
		load16(w[i:]).Mul(vk).Sub(vm.Mul(lr).Div(vv.Sqrt().MulAdd(root, eps))).StoreSlice(w[i:])
	}
	archsimd.ClearAVXUpperBits()
	scalar.adamw(w[i:], g[i:], m[i:], v[i:], h, keep)
}
