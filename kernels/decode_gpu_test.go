//go:build gpu

package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"headroom/internal/device"
	"headroom/kernels/ref"
)

// A decodeCase is one problem on host and device. Slots past a length and pages that nobody uses hold NaN, page numbers
// past a request's last are out of range, buffers have guard bands.
type decodeCase struct {
	ref.Decode
	gpu Decode
}

// newDecode draws a problem; first is the pool's first page in use.
func newDecode(r *rig, d DecodeShape, lengths []int32, first int, seed uint64) *decodeCase {
	rng := rand.New(rand.NewPCG(seed, 1))
	used := first
	d.B, d.MaxPages = len(lengths), 1
	for _, n := range lengths {
		used += ceil(int(n), d.Page)
		d.MaxPages = max(d.MaxPages, ceil(int(n), d.Page)+2)
	}
	slots := (used + 3) * d.Page
	order, pages := rng.Perm(used-first), make([]int32, d.B*d.MaxPages)
	held := make([]bool, slots)
	for b, n := range lengths {
		row := pages[b*d.MaxPages:][:d.MaxPages]
		for i := range row {
			row[i] = 1 << 30
		}
		for i := range int(n) {
			if i%d.Page == 0 {
				row[i/d.Page], order = int32(first+order[0]), order[1:]
			}
			held[int(row[i/d.Page])*d.Page+i%d.Page] = true
		}
	}
	pool := func(columns int) ([]float32, device.Buffer) {
		x := make([]float32, slots*columns)
		for s := range slots {
			for c := range columns {
				x[s*columns+c] = float32(math.NaN())
				if held[s] {
					x[s*columns+c] = float32(rng.NormFloat64())
				}
			}
		}
		return x, r.in(device.BF16, x)
	}
	c := &decodeCase{}
	c.B, c.T, c.H, c.G, c.P, c.R, c.Dv, c.Page, c.MaxPages = d.B, d.T, d.H, d.G, d.P, d.R, d.Dv, d.Page, d.MaxPages
	c.Scale = float32(1 / math.Sqrt(float64(d.P+d.R)))
	c.Pages, c.Lengths = pages, lengths
	c.Q = normal(rng, c.B*c.T*c.H*(c.P+c.R))
	c.gpu = Decode{DecodeShape: d, Scale: c.Scale, Q: r.in(device.BF16, c.Q), Pages: r.tokens(pages),
		Lengths: r.tokens(lengths)}
	c.K, c.gpu.K = pool(d.G * d.Dv)
	if d.Cache == KV {
		c.V, c.gpu.V = pool(d.G * d.Dv)
	} else {
		c.KRope, c.gpu.KRope = pool(d.R)
	}
	c.O, c.LSE = make([]float32, c.B*c.T*c.H*c.Dv), make([]float32, c.B*c.T*c.H)
	c.gpu.O, c.gpu.LSE = r.out(device.BF16, len(c.O)), r.out(device.F32, len(c.LSE))
	bytes, err := c.gpu.WorkBytes(r.dev)
	if err != nil {
		r.Fatal(err)
	}
	c.gpu.Work = r.out(device.U8, bytes)
	r.s.Fill(c.gpu.Work.Slice(arrivals*4, bytes), 0xff) // NaN where no piece was written
	r.s.Fill(c.gpu.Work.Slice(0, arrivals*4), 0)
	return c
}

// naive is the output with weights and result rounded to bf16: what a plain bf16 computation gives.
func (c *decodeCase) naive(b int) []float32 {
	values, n := c.V, int(c.Lengths[b])
	if values == nil {
		values = c.K
	}
	o := make([]float32, c.T*c.H*c.Dv)
	for i := range c.T * c.H {
		row, t, g := b*c.T*c.H+i, i/c.H, i%c.H/(c.H/c.G)
		q := c.Q[row*(c.P+c.R):][:c.P+c.R]
		for s := range n - c.T + t + 1 {
			at := int(c.Pages[b*c.MaxPages+s/c.Page])*c.Page + s%c.Page
			var dot float32
			for j, k := range c.K[(at*c.G+g)*c.Dv:][:c.P] {
				dot += q[j] * k
			}
			for j := range c.R {
				dot += q[c.P+j] * c.KRope[at*c.R+j]
			}
			p := device.FromBF16(device.ToBF16(float32(math.Exp(float64(c.Scale*dot - c.LSE[row])))))
			for j, v := range values[(at*c.G+g)*c.Dv:][:c.Dv] {
				o[i*c.Dv+j] += p * v
			}
		}
	}
	for i := range o {
		o[i] = device.FromBF16(device.ToBF16(o[i]))
	}
	return o
}

// relativeError is ‖x - want‖ / ‖want‖; NaN in x gives NaN.
func relativeError(x, want []float32) float64 {
	var diff, size float64
	for i := range want {
		d := float64(x[i]) - float64(want[i])
		diff, size = diff+d*d, size+float64(want[i])*float64(want[i])
	}
	if size == 0 {
		return diff
	}
	return math.Sqrt(diff / size)
}

// compare runs the kernel twice and compares it with the reference and with itself.
func (c *decodeCase) compare(r *rig) {
	r.Helper()
	c.Run()
	var first, firstLSE []float32
	for range 2 {
		r.s.Fill(c.gpu.O, 0xff)
		r.s.Fill(c.gpu.LSE, 0xff)
		c.gpu.Launch(r.s)
		o, lse := r.read(c.gpu.O), r.read(c.gpu.LSE)
		if first != nil && (!same(o, first) || !same(lse, firstLSE)) {
			r.Errorf("two runs differ")
		}
		first, firstLSE = o, lse
	}
	n := c.T * c.H * c.Dv
	for b := range c.B {
		want, naive := c.O[b*n:][:n], c.naive(b)
		if got, allowed := relativeError(first[b*n:][:n], want), 2*relativeError(naive, want)+1e-3; !(got <= allowed) {
			r.Errorf("request %d of length %d: error %.2g, allowed %.2g", b, c.Lengths[b], got, allowed)
		}
	}
	for i, want := range c.LSE {
		if d := math.Abs(float64(firstLSE[i] - want)); firstLSE[i] != want && !(d < 5e-3) {
			r.Fatalf("log-sum-exp %d: %v, want %v", i, firstLSE[i], want)
		}
	}
	for _, x := range r.readBytes(c.gpu.Work.Slice(0, arrivals*4)) {
		if x != 0 {
			r.Fatal("the counters of arrived pieces are not back at zero")
		}
	}
}

func same(x, y []float32) bool {
	for i := range x {
		if math.Float32bits(x[i]) != math.Float32bits(y[i]) {
			return false
		}
	}
	return true
}

func (r *rig) readBytes(b device.Buffer) []byte {
	x := make([]byte, b.N)
	device.Download(r.s, x, b)
	r.sync()
	return x
}

// kindShape is a shape by kind and value dimension, with half of it or R for the rope.
func kindShape(kind string, H, G, Dv, R, T, page int) DecodeShape {
	d := DecodeShape{Cache: kind, T: T, H: H, G: G, P: Dv, R: R, Dv: Dv, Page: page}
	switch kind {
	case "kv":
		d.R = 0
	case "tied":
		d.P = Dv - R
	}
	return d
}

func TestDecodeAttention(t *testing.T) {
	pages, queries := []int{1, 16, 64, 256}, []int{1, 2, 3, 8}
	n := 0
	for kind, dims := range decodeDims {
		for _, Dv := range dims {
			for _, heads := range [][2]int{{1, 1}, {3, 3}, {16, 1}, {16, 2}, {63, 1}, {64, 8}, {128, 2}} {
				n++
				page, T, R := pages[n%4], queries[n/4%4], decodeRopeDims[n%3]
				if kind == "tied" {
					R = Dv / 2
				}
				d := kindShape(kind, heads[0], heads[1], Dv, R, T, page)
				t.Run(fmt.Sprintf("%s%d/H%dG%d/R%d/T%d/page%d", kind, Dv, heads[0], heads[1], R, T, page), func(t *testing.T) {
					r := newRig(t)
					lengths := []int32{0, 1, int32(page) - 1, int32(page), int32(page) + 1, 127, 509}
					if Dv <= 128 && heads[0] <= 16 {
						lengths = append(lengths, 8192)
					}
					newDecode(r, d, lengths, 0, uint64(Dv)).compare(r)
				})
			}
		}
	}
}

// TestDecodeSmall runs each kind of kernel on a batch with a cut, an empty and a short request, small enough for
// compute-sanitizer: compute-sanitizer --tool racecheck --kernel-name kernel_substring=decode_ gpu.test -test.run
// DecodeSmall.
func TestDecodeSmall(t *testing.T) {
	for _, d := range []DecodeShape{
		kindShape("kv", 8, 2, 64, 0, 1, 16), kindShape("tied", 16, 4, 64, 32, 2, 1), kindShape("latent", 8, 1, 128, 32, 2, 1),
		kindShape("latent", 96, 1, 128, 48, 1, 16), kindShape("latent", 16, 1, 512, 64, 1, 16),
		kindShape("latent", 40, 1, 384, 48, 2, 16), kindShape("latent", 96, 1, 512, 64, 1, 1),
	} {
		t.Run(fmt.Sprintf("%s%d/H%d/T%d/page%d", d.Cache, d.Dv, d.H, d.T, d.Page), func(t *testing.T) {
			r := newRig(t)
			newDecode(r, d, []int32{130, 0, 5}, 0, 7).compare(r)
		})
	}
}

// TestDecodeFuzz draws lengths, heads and pages, with and without fixed pieces.
func TestDecodeFuzz(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r, rng := newRig(t), rand.New(rand.NewPCG(seed, 2))
			kind := []string{"kv", "tied", "latent"}[seed%3]
			Dv := decodeDims[kind][rng.IntN(len(decodeDims[kind]))]
			G, R := 1<<rng.IntN(4), decodeRopeDims[rng.IntN(3)]
			if kind == "tied" {
				R = Dv / 2
			}
			d := kindShape(kind, G*(1+rng.IntN(16)), G, Dv, R, 1+rng.IntN(decodeQueries), 1<<rng.IntN(9))
			d.Piece = []int{0, 64, 256}[rng.IntN(3)]
			lengths := make([]int32, 1+rng.IntN(12))
			for i := range lengths {
				lengths[i] = int32(rng.IntN(700))
			}
			newDecode(r, d, lengths, 0, seed).compare(r)
		})
	}
}

// TestDecodePieces: with fixed pieces a request gives the same bits alone and in a batch, also where the batch has more
// pieces than the GPU has parts, so that a part goes from a piece with an odd number of blocks to the next.
func TestDecodePieces(t *testing.T) {
	lengths := []int32{100, 1000, 3, 700}
	for i := range 60 {
		lengths = append(lengths, int32(i*97%600))
	}
	for _, d := range []DecodeShape{kindShape("kv", 8, 2, 64, 0, 1, 16), kindShape("tied", 16, 4, 128, 64, 2, 16),
		kindShape("latent", 16, 1, 256, 64, 1, 16), kindShape("latent", 16, 1, 512, 64, 1, 16),
		kindShape("latent", 40, 1, 256, 64, 2, 16), kindShape("latent", 40, 1, 512, 64, 2, 16)} {
		r := newRig(t)
		d.Piece = 128
		c := newDecode(r, d, lengths, 0, 3)
		c.compare(r)
		o, n := r.read(c.gpu.O), c.T*c.H*c.Dv
		one := c.gpu
		one.B, one.Q, one.O, one.LSE = 1, one.Q.Slice(c.T*c.H*(c.P+c.R), 2*c.T*c.H*(c.P+c.R)), one.O.Slice(0, n),
			one.LSE.Slice(0, c.T*c.H)
		one.Pages = r.tokens(c.Pages[c.MaxPages : 2*c.MaxPages])
		one.Lengths = r.tokens(c.Lengths[1:2])
		one.Launch(r.s)
		if alone := r.read(one.O); !same(alone, o[n:2*n]) {
			t.Errorf("%+v: a request alone differs from the same in a batch", d)
		}
	}
}

// TestDecodeFar puts the pages past 2^31 elements of the pool.
func TestDecodeFar(t *testing.T) {
	r := newRig(t)
	d := kindShape("latent", 16, 8, 512, 64, 1, 256)
	c := newDecode(r, d, []int32{300, 64}, 0, 4)
	first := 1<<31/(d.G*d.Dv*d.Page) + 1
	far := r.out(device.BF16, first*d.Page*d.G*d.Dv+c.gpu.K.N)
	r.s.Copy(far.Slice(far.N-c.gpu.K.N, far.N), c.gpu.K)
	ropes := r.out(device.BF16, first*d.Page*d.R+c.gpu.KRope.N)
	r.s.Copy(ropes.Slice(ropes.N-c.gpu.KRope.N, ropes.N), c.gpu.KRope)
	c.gpu.K, c.gpu.KRope = far, ropes
	moved := make([]int32, len(c.Pages))
	for i, p := range c.Pages {
		moved[i] = p + int32(first)
	}
	c.gpu.Pages = r.tokens(moved)
	c.compare(r)
}

func TestDecodeRefusals(t *testing.T) {
	r := newRig(t)
	c := newDecode(r, kindShape("latent", 16, 2, 256, 64, 1, 16), []int32{40, 20}, 0, 5)
	fault := r.out(device.I32, 1)
	if err := c.gpu.CheckPages(r.s, fault); err != nil {
		t.Error(err)
	}
	bad := append([]int32(nil), c.Pages...)
	bad[c.MaxPages+1] = 1 << 20
	broken := c.gpu
	broken.Pages = r.tokens(bad)
	if err := broken.CheckPages(r.s, fault); err == nil || !strings.Contains(err.Error(), "request 1:") {
		t.Errorf("a page out of range: %v", err)
	}
	for _, x := range []struct {
		change func(*Decode)
		want   string
	}{
		{func(k *Decode) { k.T = 9 }, "1 to 8 new tokens: 9"},
		{func(k *Decode) { k.O.N-- }, "O must be"},
		{func(k *Decode) { k.KRope = device.Buffer{} }, "KRope must be"},
		{func(k *Decode) { k.Q.Ptr += 2 }, "Q must begin on 16 bytes"},
	} {
		k := c.gpu
		x.change(&k)
		s, err := r.dev.NewStream()
		if err != nil {
			t.Fatal(err)
		}
		k.Launch(s)
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v, want %q", err, x.want)
		}
		s.Close()
	}
}

func TestAppendTokens(t *testing.T) {
	for _, c := range []struct {
		name         string
		G, D, R      int
		v, rotate, n bool
	}{{"kv", 2, 64, 0, true, true, false}, {"tied", 4, 96, 48, false, false, false},
		{"latent", 2, 256, 64, false, false, true}} {
		for _, T := range []int{1, 3} {
			t.Run(fmt.Sprint(c.name, T), func(t *testing.T) {
				r, rng := newRig(t), rand.New(rand.NewPCG(1, 6))
				const B, page, maxPages, pool = 3, 16, 4, 14
				h := ref.Append{B: B, T: T, G: c.G, D: c.D, R: c.R, Page: page, MaxPages: maxPages, Rotate: c.rotate,
					Rotary: ref.Rotary{Theta: 10000},
					Eps:    1e-5, Lengths: []int32{int32(T), 17, 50}}
				for _, p := range rng.Perm(pool)[:B*maxPages] {
					h.Pages = append(h.Pages, int32(p))
				}
				k := Append{B: B, T: T, G: c.G, D: c.D, R: c.R, Page: page, MaxPages: maxPages, Rotate: c.rotate, Eps: 1e-5,
					Pages: r.tokens(h.Pages), Lengths: r.tokens(h.Lengths)}
				in := func(n int) ([]float32, device.Buffer) {
					x := normal(rng, n)
					return x, r.in(device.BF16, x)
				}
				cache := func(n int) ([]float32, device.Buffer) {
					x := make([]float32, n)
					return x, r.in(device.BF16, x)
				}
				h.K, k.K = in(B * T * c.G * c.D)
				h.KCache, k.KCache = cache(pool * page * c.G * c.D)
				rotated := c.R
				if c.v {
					h.V, k.V = in(B * T * c.G * c.D)
					h.VCache, k.VCache = cache(pool * page * c.G * c.D)
				}
				if c.rotate {
					rotated = c.D
				}
				if c.n {
					h.Norm, k.Norm = in(c.G * c.D)
				}
				if c.R > 0 {
					h.KRope, k.KRope = in(B * T * c.R)
					h.RopeKeys, k.RopeKeys = cache(pool * page * c.R)
				}
				k.Table = r.in(device.F32, RopeTable(page*maxPages, rotated, ref.Rotary{Theta: 10000}))
				h.Run()
				k.Launch(r.s)
				for _, x := range []struct {
					name string
					got  device.Buffer
					want []float32
				}{{"K", k.KCache, h.KCache}, {"V", k.VCache, h.VCache}, {"KRope", k.RopeKeys, h.RopeKeys}} {
					if x.want != nil {
						if d := relativeError(r.read(x.got), x.want); !(d < 4e-3) {
							t.Errorf("%s: error %.2g", x.name, d)
						}
					}
				}
			})
		}
	}
}

// BenchmarkDecode measures the speed table at page sizes 64 and 1, uniform and ragged: -test.bench=Decode
// -test.benchtime=1x.
func BenchmarkDecode(b *testing.B) {
	r := newRig(b)
	m, err := NewDecodeMeter(r.dev)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	b.Logf("copy %.0f GB/s, product %.0f TFLOP/s", m.CopyGBs, m.ProductTFLOP)
	for _, page := range []int{64, 1} {
		for _, ragged := range []bool{false, true} {
			table := DecodeTable(page)
			for _, d := range DecodeTable(page) {
				d.FP8 = true
				table = append(table, d)
			}
			for _, d := range table {
				if d.Ragged = ragged; ragged && d.B == 1 {
					continue
				}
				b.Run(fmt.Sprintf("%s/B%d/S%d/T%d/page%d/ragged=%v/fp8=%v", strings.ReplaceAll(d.Name, " ", ""), d.B,
					d.S, d.T, page, ragged, d.FP8), func(b *testing.B) {
					for range b.N {
						row, err := m.Measure(d)
						if err != nil {
							b.Fatal(err)
						}
						b.ReportMetric(row.Micros, "µs")
						b.ReportMetric(row.GBs, "GB/s")
						b.ReportMetric(row.TFLOPs, "TFLOP/s")
						b.ReportMetric(row.OfCopy, "of-copy")
						b.ReportMetric(row.OfProduct, "of-product")
					}
				})
			}
		}
	}
}
