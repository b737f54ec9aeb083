//go:build gpu

package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"headroom/internal/device"
	"headroom/kernels/ref"
)

// An attentionShape is how a kind lays out its keys and values in rows of stride elements: keys from column 0, values
// from column v. Tied keys are the first columns of the value.
type attentionShape struct{ H, G, P, R, Dv, stride, v int }

func (d attentionShape) tied() bool { return d.v < d.P }

var attentionShapes = []attentionShape{
	{6, 2, 64, 0, 64, 128, 64}, {6, 2, 32, 32, 64, 64, 0}, {3, 3, 64, 32, 64, 128, 64}, {2, 1, 96, 0, 96, 192, 96},
	{2, 1, 48, 48, 96, 96, 0},
	{2, 2, 96, 32, 96, 192, 96}, {2, 1, 128, 0, 128, 256, 128}, {2, 2, 64, 64, 128, 128, 0},
	{2, 2, 128, 64, 128, 256, 128},
	{2, 1, 16, 0, 16, 32, 16}, {2, 2, 32, 16, 32, 64, 32}, {2, 1, 80, 0, 80, 168, 88}, {1, 1, 112, 64, 112, 224, 112},
	{1, 1, 128, 128, 256, 256, 0}, {1, 1, 256, 0, 256, 512, 256},
}

// attentionData is one problem on the host, its inputs rounded to the type that the kernels get.
type attentionData struct {
	attentionShape
	B, T, window    int     // a window of 0 is none
	starts          []int32 // [B,T] of documents; nil: none
	q, kv, rope, dO []float32
	o, lse          []float32
	dq, dkv, dRope  []float32
}

func newAttentionData(d attentionShape, B, T int, typ device.Type) *attentionData {
	rng := rand.New(rand.NewPCG(uint64(d.P*1000+d.R), uint64(T)))
	a := &attentionData{attentionShape: d, B: B, T: T}
	draw := func(n int) []float32 {
		x := normal(rng, n)
		if typ == device.BF16 {
			for i := range x {
				x[i] = device.FromBF16(device.ToBF16(x[i]))
			}
		}
		return x
	}
	a.q, a.dO = draw(B*T*d.H*(d.P+d.R)), draw(B*T*d.H*d.Dv)
	a.kv, a.rope = draw(B*T*d.G*d.stride), draw(B*T*d.R)
	return a
}

func (a *attentionData) scale() float32 { return float32(1 / math.Sqrt(float64(a.P+a.R))) }

// outputs makes the host's outputs zero.
func (a *attentionData) outputs() {
	a.o, a.lse = make([]float32, a.B*a.T*a.H*a.Dv), make([]float32, a.B*a.H*a.T)
	a.dq, a.dkv, a.dRope = make([]float32, len(a.q)), make([]float32, len(a.kv)), make([]float32, len(a.rope))
}

// reference runs kernels/ref.
func (a *attentionData) reference() {
	a.outputs()
	k := ref.AttentionGrad{Attention: ref.Attention{
		B: a.B, T: a.T, Window: a.window, Starts: a.starts, H: a.H, G: a.G, P: a.P, R: a.R, Dv: a.Dv, Scale: a.scale(),
		Q: a.q, K: a.kv, V: a.kv[a.v:],
		KRope:   a.rope,
		KStride: a.stride, VStride: a.stride, O: a.o, LSE: a.lse,
	}, DO: a.dO, DQ: a.dq, DK: a.dkv, DV: a.dkv[a.v:], DKRope: a.dRope, Tied: a.tied()}
	k.Attention.Run()
	k.Run()
	a.unwritten()
}

// unwritten marks the columns between keys and values, which nobody writes: the poison of 0xff bytes is a NaN too.
func (a *attentionData) unwritten() {
	for i := range a.dkv {
		if c := i % a.stride; c >= a.P && (c < a.v || c >= a.v+a.Dv) {
			a.dkv[i] = float32(math.NaN())
		}
	}
}

// exactly and toBF16 are the roundings that naive takes.
func exactly(x float64) float64 { return x }
func toBF16(x float64) float64  { return float64(device.FromBF16(device.ToBF16(float32(x)))) }

// naive computes the same in float64; where round is bf16, as a plain bf16 computation does: probabilities, score
// gradients and outputs rounded. The forward pass rounds probabilities after their division by the sum, or, if fused,
// before it, as one pass over the keys must.
func (a *attentionData) naive(round func(float64) float64, fused bool) {
	a.outputs()
	rope, dkv := make([]float64, len(a.rope)), make([]float64, len(a.kv))
	var lock sync.Mutex
	var all sync.WaitGroup
	for u := range a.B * a.H {
		all.Go(func() {
			b, h := u/a.H, u%a.H
			dk, dv := a.head(b, h, round, fused)
			lock.Lock()
			a.fold(b, h/(a.H/a.G), dk, dv, dkv, rope)
			lock.Unlock()
		})
	}
	all.Wait()
	for i, x := range dkv {
		a.dkv[i] = float32(round(x))
	}
	for i, x := range rope {
		a.dRope[i] = float32(round(x))
	}
	a.unwritten()
}

// fold adds a head's gradients of keys [T, P+R] and values [T, Dv] to those of its group.
func (a *attentionData) fold(b, g int, dk, dv, dkv, rope []float64) {
	D := a.P + a.R
	for t := range a.T {
		row := dkv[((b*a.T+t)*a.G+g)*a.stride:]
		for i := range a.P {
			row[i] += dk[t*D+i]
		}
		for i := range a.Dv {
			row[a.v+i] += dv[t*a.Dv+i]
		}
		for i := range a.R {
			rope[(b*a.T+t)*a.R+i] += dk[t*D+a.P+i]
		}
	}
}

// head computes one head's outputs, query gradient, and gradients of keys and values.
func (a *attentionData) head(b, h int, round func(float64) float64, fused bool) (dk, dv []float64) {
	D, g, scale := a.P+a.R, h/(a.H/a.G), float64(a.scale())
	dk, dv = make([]float64, a.T*D), make([]float64, a.T*a.Dv)
	key := func(j, i int) float64 {
		if i < a.P {
			return float64(a.kv[((b*a.T+j)*a.G+g)*a.stride+i])
		}
		return float64(a.rope[(b*a.T+j)*a.R+i-a.P])
	}
	for t := range a.T {
		q, at := a.q[((b*a.T+t)*a.H+h)*D:], ((b*a.T+t)*a.H+h)*a.Dv
		first := ref.FirstKey(t, a.window)
		if a.starts != nil {
			first = max(first, int(a.starts[b*a.T+t]))
		}
		p, top, sum := make([]float64, t+1-first), math.Inf(-1), 0.0 // of the keys from the first on
		for j := range p {
			for i := range D {
				p[j] += float64(q[i]) * key(first+j, i)
			}
			p[j] *= scale
			top = max(top, p[j])
		}
		for _, x := range p {
			sum += math.Exp(x - top)
		}
		lse, o, delta, dq := top+math.Log(sum), make([]float64, a.Dv), 0.0, make([]float64, D)
		a.lse[(b*a.H+h)*a.T+t] = float32(lse)
		for j := range p {
			weight := round(math.Exp(p[j] - lse))
			if fused {
				weight = round(math.Exp(p[j]-top)) / sum
			}
			p[j] = math.Exp(p[j] - lse)
			for i := range o {
				o[i] += weight * float64(a.kv[((b*a.T+first+j)*a.G+g)*a.stride+a.v+i])
			}
		}
		for i := range o {
			o[i] = round(o[i])
			a.o[at+i] = float32(o[i])
			delta += o[i] * float64(a.dO[at+i])
		}
		for j := range p {
			dp, weight := 0.0, round(p[j])
			for i := range o {
				dp += float64(a.dO[at+i]) * float64(a.kv[((b*a.T+first+j)*a.G+g)*a.stride+a.v+i])
				dv[(first+j)*a.Dv+i] += weight * float64(a.dO[at+i])
			}
			ds := round(p[j] * (dp - delta))
			for i := range D {
				dq[i] += ds * key(first+j, i) * scale
				dk[(first+j)*D+i] += ds * float64(q[i]) * scale
			}
		}
		for i := range dq {
			a.dq[((b*a.T+t)*a.H+h)*D+i] = float32(round(dq[i]))
		}
	}
	return dk, dv
}

// kernels gives the launch of forward and backward on device buffers, and the outputs in the order of compare.
func (a *attentionData) kernels(r *rig, typ device.Type, recompute bool) (launch func(*device.Stream),
	outs []device.Buffer) {
	kv, dkv := r.in(typ, a.kv), r.out(typ, len(a.kv))
	k := AttentionGrad{Attention: Attention{
		B: a.B, T: a.T, Window: a.window, H: a.H, G: a.G, P: a.P, R: a.R, Dv: a.Dv, Scale: a.scale(), Q: r.in(typ, a.q),
		K: kv, V: kv.Slice(a.v, kv.N),
		KRope: r.in(typ, a.rope), KStride: a.stride, VStride: a.stride, O: r.out(typ, len(a.dO)),
		LSE: r.out(device.F32, a.B*a.H*a.T),
	}, DO: r.in(typ, a.dO), DQ: r.out(typ, len(a.q)), DK: dkv, DV: dkv.Slice(a.v, kv.N), DKRope: r.out(typ, len(a.rope)),
		Tied: a.tied(), Recompute: recompute}
	if a.starts != nil {
		k.Starts = r.tokens(a.starts)
	}
	return func(s *device.Stream) {
		k.Attention.Launch(s)
		k.Launch(s)
	}, []device.Buffer{k.O, k.LSE, k.DQ, dkv, k.DKRope}
}

func (a *attentionData) results() [][]float32 { return [][]float32{a.o, a.lse, a.dq, a.dkv, a.dRope} }

var attentionOutputs = []string{"o", "lse", "dq", "dkv", "dkrope"}

// distance is ‖x - y‖ per element, over what y says is written.
func distance(x, y []float32) float64 {
	var d float64
	for i := range y {
		if y[i] != y[i] && x[i] != x[i] {
			continue
		}
		d += (float64(x[i]) - float64(y[i])) * (float64(x[i]) - float64(y[i]))
	}
	return math.Sqrt(d / float64(max(len(y), 1)))
}

// TestAttention compares with float64: in bf16 at most twice the error of a naive computation in bf16, in float32 at
// most a few roundings, of which kernels/ref's own error is the measure.
func TestAttention(t *testing.T) {
	for _, typ := range types {
		for _, d := range attentionShapes {
			for _, T := range append([]int{256}, sizes...) {
				t.Run(fmt.Sprint(typ, d, T), func(t *testing.T) { testAttention(t, typ, d, T, 0, 0) })
			}
		}
	}
}

// TestAttentionWindow is TestAttention in windows that end within tiles, at their edges and beyond.
func TestAttentionWindow(t *testing.T) {
	for _, typ := range types {
		for i, d := range attentionShapes {
			for j, T := range []int{1, 65, 127, 300} {
				for _, window := range [][]int{{2, 64, 129}, {32, 65, 200}, {1, 33, 128}}[(i+j)%3] {
					t.Run(fmt.Sprint(typ, d, T, window), func(t *testing.T) { testAttention(t, typ, d, T, window, 0) })
				}
			}
		}
	}
}

// TestAttentionDocuments is TestAttention within documents, with a window too; the first of a row goes on from the row
// before.
func TestAttentionDocuments(t *testing.T) {
	for _, typ := range types {
		for i, d := range attentionShapes {
			for j, T := range []int{1, 65, 127, 300} {
				for _, c := range [][2]int{{0, 3}, {0, 70}, {33, 40}}[(i+j)%3:] {
					t.Run(fmt.Sprint(typ, d, T, c), func(t *testing.T) { testAttention(t, typ, d, T, c[0], c[1]) })
				}
			}
		}
	}
}

// TestAttentionLongDocuments has documents that end between the keys of two warpgroups and go on over many blocks,
// and a window beside them.
func TestAttentionLongDocuments(t *testing.T) {
	for _, d := range []attentionShape{{2, 1, 64, 0, 64, 128, 64}, {2, 1, 48, 48, 96, 96, 0},
		{2, 1, 128, 0, 128, 256, 128}, {1, 1, 128, 64, 128, 256, 128}} {
		for _, c := range [][3]int{{480, 0, 250}, {480, 100, 250}, {480, 300, 250}, {480, 130, 0}} {
			t.Run(fmt.Sprint(d, c), func(t *testing.T) { testAttention(t, device.BF16, d, c[0], c[1], c[2]) })
		}
	}
}

// testAttention compares in windows and within documents of a length, where these are not 0.
func testAttention(t *testing.T, typ device.Type, d attentionShape, T, window, length int) {
	t.Helper()
	B := 1 + min(T, 65)/65
	var starts []int32
	for at := range B * T {
		if length > 0 {
			starts = append(starts, int32(max(0, (at+29)/length*length-29-at/T*T)))
		}
	}
	testMasked(t, typ, d, B, T, window, starts)
}

// testMasked compares in a window and within documents, where these are not 0 and not nil.
func testMasked(t *testing.T, typ device.Type, d attentionShape, B, T, window int, starts []int32) {
	t.Helper()
	r := newRig(t)
	exact, plain := newAttentionData(d, B, T, typ), newAttentionData(d, B, T, typ)
	exact.starts, plain.starts = starts, starts
	exact.window, plain.window = window, window
	exact.naive(exactly, false)
	allowed := make([]float64, len(attentionOutputs))
	widen := func() {
		for i := range allowed {
			allowed[i] = max(allowed[i], 2*distance(plain.results()[i], exact.results()[i])+2e-6)
		}
	}
	if typ == device.BF16 { // of three tokens either rounding may be the lucky one
		plain.naive(toBF16, false)
		widen()
		plain.naive(toBF16, true)
	} else {
		plain.reference()
	}
	widen()
	for _, recompute := range []bool{false, true} {
		launch, outs := exact.kernels(r, typ, recompute)
		r.checkAttention(launch, outs, exact.results(), allowed)
	}
}

// checkAttention launches twice on poisoned outputs and compares each with what is exact and with itself.
func (r *rig) checkAttention(launch func(*device.Stream), outs []device.Buffer, exact [][]float32, allowed []float64) {
	r.Helper()
	first := make([][]float32, len(outs))
	for run := range 2 {
		for _, b := range outs {
			r.s.Fill(b, 0xff)
		}
		launch(r.s)
		r.sync()
		for i, b := range outs {
			got := r.read(b)
			if run == 0 {
				first[i] = got
				if e := distance(got, exact[i]); !(e <= allowed[i]) {
					r.Errorf("%s: error %.3g an element, allowed %.3g", attentionOutputs[i], e, allowed[i])
				}
				continue
			}
			for j := range got {
				if math.Float32bits(got[j]) != math.Float32bits(first[i][j]) {
					r.Errorf("%s: element %d differs between two runs: %v, %v", attentionOutputs[i], j, first[i][j], got[j])
					break
				}
			}
		}
	}
}

// TestAttentionStart runs the last tokens of a sequence behind the others' keys: their outputs are those of the whole
// sequence, bit for bit.
func TestAttentionStart(t *testing.T) {
	const B = 2
	for _, typ := range types {
		for _, d := range attentionShapes {
			for _, c := range [][2]int{{64, 1}, {64, 65}, {128, 200}, {192, 64}, {320, 193}} {
				start, T := c[0], c[1]
				t.Run(fmt.Sprint(typ, d, start, T), func(t *testing.T) {
					r, S := newRig(t), start+T
					a := newAttentionData(d, B, S, typ)
					kv, D := r.in(typ, a.kv), d.P+d.R
					k := Attention{
						B: B, T: S, H: d.H, G: d.G, P: d.P, R: d.R, Dv: d.Dv, Scale: a.scale(), Q: r.in(typ, a.q), K: kv,
						V:     kv.Slice(d.v, kv.N),
						KRope: r.in(typ, a.rope), KStride: d.stride, VStride: d.stride, O: r.out(typ, B*S*d.H*d.Dv),
						LSE: r.out(device.F32, B*d.H*S),
					}
					k.Launch(r.s)
					r.sync()
					o, lse := r.read(k.O), r.read(k.LSE)
					var q []float32
					for b := range B {
						q = append(q, a.q[(b*S+start)*d.H*D:(b+1)*S*d.H*D]...)
					}
					k.T, k.Start, k.Q, k.O, k.LSE = T, start, r.in(typ, q), r.out(typ, B*T*d.H*d.Dv), r.out(device.F32, B*d.H*T)
					k.Launch(r.s)
					r.sync()
					for b := range B {
						r.sameBits("o", r.read(k.O)[b*T*d.H*d.Dv:][:T*d.H*d.Dv], o[(b*S+start)*d.H*d.Dv:])
					}
					for i := range B * d.H {
						r.sameBits("lse", r.read(k.LSE)[i*T:][:T], lse[i*S+start:])
					}
				})
			}
		}
	}
}

// sameBits compares all of x with the beginning of y.
func (r *rig) sameBits(what string, x, y []float32) {
	r.Helper()
	for i := range x {
		if math.Float32bits(x[i]) != math.Float32bits(y[i]) {
			r.Fatalf("%s: element %d is %v, of the whole sequence %v", what, i, x[i], y[i])
		}
	}
}

func TestAttentionBadShapes(t *testing.T) {
	r := newRig(t)
	b, f := r.out(device.BF16, 1<<14), r.out(device.F32, 1<<14)
	good := Attention{B: 1, T: 2, H: 2, G: 1, P: 64, Dv: 64, Q: b, K: b, V: b, KStride: 64, VStride: 64, O: b, LSE: f}
	for _, c := range []struct {
		change func(*AttentionGrad)
		want   string
	}{
		{func(k *AttentionGrad) { k.G = 3 },
			"kernels: attention: G must divide H: B 1, T 2, H 2, G 3, P 64, R 0, Dv 64, strides 64 and 64"},
		{func(k *AttentionGrad) { k.P = 272 }, "P+R and Dv must be 1 to 256"},
		{func(k *AttentionGrad) { k.Dv = 72 }, "the strides must be at least P and Dv"},
		{func(k *AttentionGrad) { k.Dv = 40 }, "in bf16 P+R and Dv must be multiples of 16, P and the strides of 8"},
		{func(k *AttentionGrad) { k.LSE = f.Slice(0, 3) }, "kernels: attention: LSE must be 4 of f32, it is 3 of f32"},
		{func(k *AttentionGrad) { k.Q = b.Slice(1, b.N) }, "kernels: attention: a bf16 buffer must begin on 16 bytes"},
		{func(k *AttentionGrad) { k.DQ = f }, "kernels: attention gradient: DQ must be 256 of bf16, it is 16384 of f32"},
		{func(k *AttentionGrad) { k.Start = 64 }, "attention gradient: there is none behind cached tokens"},
		{func(k *AttentionGrad) { k.DV, k.Tied = b.Slice(8, b.N), true },
			"a tied key must lie in the first columns of the value"},
	} {
		k := AttentionGrad{Attention: good, DO: b, DQ: b, DK: b, DV: b}
		c.change(&k)
		k.Launch(r.s)
		if err := r.s.Sync(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

// BenchmarkAttention times forward and gradient at B 16, T 2048, where it counts the products of a causal half: two
// forward, five backward.
func BenchmarkAttention(b *testing.B) {
	for _, d := range []attentionShape{{12, 4, 64, 0, 64, 128, 64}, {12, 4, 32, 32, 64, 64, 0},
		{12, 12, 64, 32, 64, 128, 64}, {16, 4, 128, 0, 128, 256, 128}, {16, 16, 128, 64, 128, 256, 128}} {
		const B, T = 16, 2048
		r := newRig(b)
		k, D := r.attention(d, B, T), d.P+d.R
		pairs := float64(B*d.H) * T * T
		b.Run(fmt.Sprint("forward ", d), func(b *testing.B) {
			for range b.N {
				r.speed(b, 0, pairs*float64(D+d.Dv), k.Attention.Launch)
			}
		})
		b.Run(fmt.Sprint("backward ", d), func(b *testing.B) {
			for range b.N {
				r.speed(b, 0, pairs*float64(3*D+2*d.Dv), k.Launch)
			}
		})
	}
}

// BenchmarkMaskedAttention times forward and gradient at B 2, T 8192: causal, in a window of 512, within documents of
// 1,024 tokens, and in one document alone, which masks nothing.
func BenchmarkMaskedAttention(b *testing.B) {
	for _, d := range []attentionShape{{12, 4, 64, 0, 64, 128, 64}, {12, 4, 32, 32, 64, 64, 0},
		{12, 12, 64, 32, 64, 128, 64}, {12, 3, 64, 64, 128, 128, 0}, {16, 4, 128, 0, 128, 256, 128},
		{16, 16, 128, 64, 128, 256, 128}} {
		const B, T = 2, 8192
		r := newRig(b)
		k := r.attention(d, B, T)
		documents, one := make([]int32, B*T), make([]int32, B*T)
		for i := range documents {
			documents[i] = int32(i % T / 1024 * 1024)
		}
		for _, c := range []struct {
			name   string
			window int
			starts device.Buffer
		}{{"causal", 0, device.Buffer{}}, {"window", 512, device.Buffer{}}, {"documents", 0, r.tokens(documents)},
			{"one document", 0, r.tokens(one)}} {
			k := *k
			k.Window, k.Starts = c.window, c.starts
			b.Run(fmt.Sprint("forward ", c.name, d), func(b *testing.B) {
				for range b.N {
					r.speed(b, 0, 0, k.Attention.Launch)
				}
			})
			b.Run(fmt.Sprint("backward ", c.name, d), func(b *testing.B) {
				for range b.N {
					r.speed(b, 0, 0, k.Launch)
				}
			})
		}
	}
}

// attention is a problem of noise.
func (r *rig) attention(d attentionShape, B, T int) *AttentionGrad {
	rows, D := B*T, d.P+d.R
	noise := func(n int) device.Buffer { return r.random(device.BF16, n, 1) }
	kv, dkv := noise(rows*d.G*d.stride), noise(rows*d.G*d.stride)
	return &AttentionGrad{Attention: Attention{
		B: B, T: T, H: d.H, G: d.G, P: d.P, R: d.R, Dv: d.Dv, Scale: float32(1 / math.Sqrt(float64(D))),
		Q: noise(rows * d.H * D), K: kv, V: kv.Slice(d.v, kv.N),
		KRope: noise(rows * d.R), KStride: d.stride, VStride: d.stride, O: noise(rows * d.H * d.Dv),
		LSE: r.out(device.F32, rows*d.H),
	}, DO: noise(rows * d.H * d.Dv), DQ: noise(rows * d.H * D), DK: dkv, DV: dkv.Slice(d.v, kv.N),
		DKRope: noise(rows * d.R), Tied: d.tied()}
}
