//go:build gpu

package kernels

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"headroom/internal/device"
	"headroom/kernels/ref"
)

// quantized is a pool [slots, G, dim] in bytes, with its scales [pages, G, page]; x becomes what is read of it.
func quantized(r *rig, x []float32, G, dim, page int) (codes, scales device.Buffer) {
	c, e := make([]byte, len(x)), make([]byte, len(x)/dim)
	for i := range e {
		slot, g := i/G, i%G
		v, to := x[i*dim:][:dim], c[i*dim:][:dim]
		scale := ref.QuantizeE4M3(to, v)
		ref.DequantizeE4M3(v, to, scale)
		e[(slot/page*G+g)*page+slot%page] = scale
	}
	codes, scales = r.out(device.U8, len(c)), r.out(device.U8, len(e))
	device.Upload(r.s, codes, c)
	device.Upload(r.s, scales, e)
	return codes, scales
}

// comparesFP8 holds the kernel on an 8-bit cache against the reference on what is read of it, and bit for bit against
// the kernel on a bf16 cache that holds the same.
func comparesFP8(r *rig, d DecodeShape, lengths []int32, seed uint64) {
	r.Helper()
	c := newDecode(r, d, lengths, 0, seed)
	rng := rand.New(rand.NewPCG(seed, 8))
	for i := range len(c.K) / d.Dv { // vectors of very different sizes
		size := math.Ldexp(1, rng.IntN(9)-4)
		for j := range d.Dv {
			c.K[i*d.Dv+j] *= float32(size)
		}
	}
	halves := c.gpu
	c.gpu.FP8 = true
	c.gpu.K, c.gpu.KScale = quantized(r, c.K, d.G, d.Dv, d.Page)
	halves.K = r.in(device.BF16, c.K)
	if d.Cache == KV {
		c.gpu.V, c.gpu.VScale = quantized(r, c.V, d.G, d.Dv, d.Page)
		halves.V = r.in(device.BF16, c.V)
	}
	c.compare(r)
	o, lse := r.read(c.gpu.O), r.read(c.gpu.LSE)
	r.s.Fill(halves.O, 0xff)
	halves.Launch(r.s)
	ours, err := c.gpu.on(r.dev)
	if theirs, _ := halves.on(r.dev); err != nil || theirs.kernel+"_fp8" != ours.kernel {
		return // another kernel, which adds in another order
	}
	if !same(r.read(halves.O), o) || !same(r.read(halves.LSE), lse) {
		r.Error("the kernel on a bf16 cache of the same values gives other bits")
	}
}

func TestDecodeFP8(t *testing.T) {
	pages, queries := []int{1, 16, 64, 256}, []int{1, 2, 3, 8}
	n := 0
	for kind, dims := range decodeDims {
		for _, Dv := range dims {
			for _, heads := range [][2]int{{1, 1}, {3, 3}, {16, 2}, {63, 1}, {64, 8}, {128, 2}} {
				n++
				page, T, R := pages[n%4], queries[n/4%4], decodeRopeDims[n%3]
				if kind == "tied" {
					R = Dv / 2
				}
				d := kindShape(kind, heads[0], heads[1], Dv, R, T, page)
				t.Run(fmt.Sprintf("%s%d/H%dG%d/R%d/T%d/page%d", kind, Dv, heads[0], heads[1], R, T, page), func(t *testing.T) {
					lengths := []int32{0, 1, int32(page) - 1, int32(page), int32(page) + 1, 127, 509}
					if Dv <= 128 && heads[0] <= 16 {
						lengths = append(lengths, 8192)
					}
					comparesFP8(newRig(t), d, lengths, uint64(Dv))
				})
			}
		}
	}
}

// TestDecodeFP8Small is small enough for compute-sanitizer, as TestDecodeSmall is.
func TestDecodeFP8Small(t *testing.T) {
	for _, d := range []DecodeShape{
		kindShape("kv", 8, 2, 64, 0, 1, 16), kindShape("kv", 8, 4, 128, 0, 1, 64), kindShape("tied", 16, 4, 64, 32, 2, 1),
		kindShape("tied", 16, 4, 96, 48, 1, 16), kindShape("latent", 8, 1, 128, 32, 2, 1),
		kindShape("latent", 96, 1, 192, 48, 1, 16), kindShape("latent", 16, 1, 512, 64, 1, 16),
	} {
		t.Run(fmt.Sprintf("%s%d/H%d/T%d/page%d", d.Cache, d.Dv, d.H, d.T, d.Page), func(t *testing.T) {
			comparesFP8(newRig(t), d, []int32{130, 0, 5}, 7)
		})
	}
}

// TestDecodeFP8Rows holds what quantises, gathers and attends plainly against the rule of the CPU: bytes bit for bit
// where they are not rotated or normed, which is exact there.
func TestDecodeFP8Rows(t *testing.T) {
	for _, c := range []struct{ G, D, turn int }{{2, 64, 0}, {3, 24, 8}, {1, 512, 64}, {4, 128, 128}} {
		t.Run(fmt.Sprintf("G%d/D%d/turn%d", c.G, c.D, c.turn), func(t *testing.T) {
			const page, maxPages, S, H = 16, 3, 37, 12
			r, rng := newRig(t), rand.New(rand.NewPCG(uint64(c.D), 3))
			x := make([]float32, S*c.G*c.D)
			for i := range x {
				size := rng.IntN(5) - 3
				if token := i / c.D / c.G; token < 16 { // far from 1
					size += 8*token - 80
				}
				x[i] = float32(math.Ldexp(rng.NormFloat64(), size))
			}
			x[0], x[5*c.G*c.D] = float32(math.Inf(1)), float32(math.NaN()) // tokens 0 and 5: not attended to below
			in := r.in(device.BF16, x)
			positions, rows := make([]int32, S), make([]int32, S)
			for i := range positions {
				positions[i] = int32(i)
			}
			rows[36] = -1
			pages := []int32{4, 1, 2}
			k := DecodePlaceFP8{Positions: r.tokens(positions), Rows: r.tokens(rows), Pages: r.tokens(pages), N: S, Page: page,
				MaxPages: maxPages}
			codes, scales := r.out(device.U8, 5*page*c.G*c.D), r.out(device.U8, 5*page*c.G)
			k.Entries = []DecodeEntry{{X: in, Y: codes, Scales: scales, XRow: c.G * c.D, XHead: c.D, Heads: c.G, Dim: c.D}}
			k.Launch(r.s)
			wantCodes, wantScales := bytes.Repeat([]byte{0xff}, codes.N), bytes.Repeat([]byte{0xff}, scales.N)
			read := make([]float32, len(x))
			for s := range S - 1 {
				for g := range c.G {
					slot, from := int(pages[s/page])*page+s%page, (s*c.G+g)*c.D
					to := wantCodes[(slot*c.G+g)*c.D:][:c.D]
					scale := ref.QuantizeE4M3(to, x[from:][:c.D])
					wantScales[(int(pages[s/page])*c.G+g)*page+s%page] = scale
					ref.DequantizeE4M3(read[from:][:c.D], to, scale)
				}
			}
			if !bytes.Equal(r.readBytes(codes), wantCodes) || !bytes.Equal(r.readBytes(scales), wantScales) {
				t.Fatal("bytes or scales are not the CPU's")
			}
			y := r.out(device.BF16, 36*c.G*c.D)
			(&DecodeGatherFP8{X: codes, Scales: scales, Y: y, Pages: k.Pages, B: 1, S: 36, Heads: c.G, Dim: c.D, Page: page,
				MaxPages: maxPages}).Launch(r.s)
			for i, got := range r.read(y) {
				if want := read[i]; got != want && (got == got || want == want) {
					t.Fatalf("element %d is gathered as %v, not %v", i, got, want)
				}
			}
			// plain attention, in a window that leaves the tokens that are NaN out
			q := normal(rng, H*c.D)
			o := r.out(device.BF16, H*c.D)
			plain := DecodePlain{N: 1, H: H, G: c.G, P: c.D, Dv: c.D, KDim: c.D, VDim: c.D, Page: page, MaxPages: maxPages,
				Turn: c.turn, Window: 20, Scale: 0.25, Q: r.in(device.BF16, q), K: codes, V: codes, KScale: scales, VScale: scales,
				O: o, Positions: r.tokens([]int32{35}), Rows: r.tokens([]int32{0}), Pages: k.Pages}
			rotary := ref.Rotary{Theta: 10000}
			if c.turn > 0 {
				plain.Table = r.in(device.F32, RopeTable(page*maxPages, c.turn, rotary))
			}
			plain.Launch(r.s)
			want := plainly(q, read, c.G, H, c.D, c.turn, RopeTable(page*maxPages, max(c.turn, 2), rotary))
			if e := relativeError(r.read(o), want); !(e < 5e-3) {
				t.Errorf("plain attention is off by %.2g", e)
			}
		})
	}
}

// plainly is attention of the token at 35 to tokens 16 to 35, keys and values one.
func plainly(q, x []float32, G, H, D, turn int, table []float32) (o []float32) {
	for h := range H {
		var w [20]float64
		top, sum := math.Inf(-1), 0.0
		for s := range w {
			k, half := x[((16+s)*G+h/(H/G))*D:][:D], turn/2
			for c := range D {
				v := float64(k[c])
				if j := c - (D - turn); j >= 0 {
					at := (16+s)*half + j%half
					cos, sin := float64(table[2*at]), float64(table[2*at+1])
					if j < half {
						v = v*cos - float64(k[c+half])*sin
					} else {
						v = v*cos + float64(k[c-half])*sin
					}
				}
				w[s] += 0.25 * float64(q[h*D+c]) * v
			}
			top = max(top, w[s])
		}
		for s := range w {
			w[s] = math.Exp(w[s] - top)
			sum += w[s]
		}
		for c := range D {
			var v float64
			for s := range w {
				v += w[s] / sum * float64(x[((16+s)*G+h/(H/G))*D+c])
			}
			o = append(o, float32(v))
		}
	}
	return o
}
