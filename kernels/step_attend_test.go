//go:build gpu

package kernels

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"headroom/internal/device"
	"headroom/kernels/ref"
)

// TestStepAttend holds the launch that does it all against the reference of its parts: rotation, append, attention.
// Slots past a length hold NaN, and so does the new token's own.
func TestStepAttend(t *testing.T) {
	for _, d := range []DecodeShape{
		kindShape("kv", 24, 4, 64, 0, 1, 64), kindShape("kv", 4, 4, 96, 0, 1, 16), kindShape("kv", 20, 1, 128, 0, 1, 64),
		kindShape("tied", 24, 4, 64, 32, 1, 64), kindShape("tied", 6, 2, 96, 48, 1, 64),
		kindShape("tied", 8, 2, 128, 64, 1, 64),
		kindShape("latent", 24, 2, 128, 32, 1, 64), kindShape("latent", 16, 2, 192, 32, 1, 64),
		kindShape("latent", 12, 1, 256, 32, 1, 64),
		kindShape("latent", 40, 1, 256, 64, 1, 64),
	} {
		for _, lengths := range [][]int32{{1}, {1024}, {1, 16, 17, 0, 64, 500}, slices.Repeat([]int32{130}, 40)} {
			t.Run(fmt.Sprint(d.Cache, d.H, d.Dv, len(lengths), lengths[0]),
				func(t *testing.T) { checkStepAttend(t, d, lengths) })
		}
	}
}

func checkStepAttend(t *testing.T, d DecodeShape, lengths []int32) {
	r := newRig(t)
	c := newDecode(r, d, lengths, 1, 7)
	d = c.gpu.DecodeShape
	rotate, E := d.R, d.P+d.R
	if d.R == 0 {
		rotate = d.Dv
	}
	h := ref.Append{B: d.B, T: 1, G: d.G, D: d.Dv, R: d.R, Page: d.Page, MaxPages: d.MaxPages, Rotate: d.R == 0,
		Rotary: ref.Rotary{Theta: 10000}, Eps: 1e-5,
		KCache: c.K, VCache: c.V, RopeKeys: c.KRope, Pages: c.Pages, Lengths: lengths}
	k := StepAttend{DecodeShape: d, Rotate: rotate, Scale: c.Scale, Eps: 1e-5, Q: c.gpu.Q,
		QRotate: c.gpu.Q.Slice(E-rotate, c.gpu.Q.N), QRow: d.H * E, QHead: E, QRotateRow: d.H * E, QRotateHead: E,
		KRow: d.G * d.Dv, VRow: d.G * d.Dv, KRopeRow: d.R, KCache: c.gpu.K, VCache: c.gpu.V, RopeCache: c.gpu.KRope,
		Pages: c.gpu.Pages, Lengths: c.gpu.Lengths, O: c.gpu.O}
	rng := rand.New(rand.NewPCG(11, 1))
	in := func(n int) ([]float32, device.Buffer) {
		x := normal(rng, n)
		return x, r.in(device.BF16, x)
	}
	h.K, k.K = in(d.B * d.G * d.Dv)
	if d.R == 0 {
		h.V, k.V = in(d.B * d.G * d.Dv)
	} else {
		h.KRope, k.KRope = in(d.B * d.R)
	}
	if d.Cache == Latent {
		h.Norm, k.Norm = in(d.G * d.Dv)
	}
	table := RopeTable(d.Page*d.MaxPages, rotate, ref.Rotary{Theta: 10000})
	k.Table = r.in(device.F32, table)
	h.Run()
	for _, x := range [][]float32{c.K, c.V, c.KRope} {
		for i := range x {
			x[i] = device.FromBF16(device.ToBF16(x[i]))
		}
	}
	for i := range d.B * d.H {
		x := c.Q[i*E+E-rotate:][:rotate]
		at := max(0, int(lengths[i/d.H])-1) * rotate
		for j := range rotate / 2 {
			cos, sin := table[at+2*j], table[at+2*j+1]
			u, v := x[j], x[j+rotate/2]
			x[j], x[j+rotate/2] = device.FromBF16(device.ToBF16(u*cos-v*sin)), device.FromBF16(device.ToBF16(v*cos+u*sin))
		}
	}
	c.Run()
	r.s.Fill(k.O, 0)
	k.Launch(r.s)
	first := r.read(k.O)
	for b, n := range lengths {
		o := first[b*d.H*d.Dv:][:d.H*d.Dv]
		if want := c.O[b*d.H*d.Dv:][:d.H*d.Dv]; n > 0 && !(relativeError(o, want) < 5e-3) {
			t.Errorf("request %d of %d tokens: error %.2g", b, n, relativeError(o, want))
		} else if n == 0 && slices.ContainsFunc(o, func(x float32) bool { return x != 0 }) {
			t.Errorf("request %d is nobody's, and was written", b)
		}
	}
	for _, x := range []struct {
		name string
		got  device.Buffer
		want []float32
	}{{"K", k.KCache, c.K}, {"V", k.VCache, c.V}, {"KRope", k.RopeCache, c.KRope}} {
		if x.want == nil {
			continue
		}
		got := r.read(x.got)
		for i, w := range x.want {
			if !(got[i] == w || got[i] != got[i] && w != w || max(got[i]-w, w-got[i]) <= 0.01*max(w, -w)) {
				t.Errorf("%s: element %d is %v, want %v", x.name, i, got[i], w)
				break
			}
		}
	}
	k.Launch(r.s)
	if again := r.read(k.O); !slices.Equal(again, first) {
		t.Error("two launches differ")
	}
}
