//go:build gpu

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"

	"headroom/internal/device"
	"headroom/kernels"
	"headroom/kernels/ref"
)

// compute is what a kernel does, by the plainest loops that its documentation allows.
func (p *simulation) compute(k launcher) {
	switch k := k.(type) {
	case *kernels.DecodeEmbed:
		given, table, y := p.view(k.Given), p.view(k.Table), p.view(k.Y)
		for i := range k.Given.N {
			token := given.int(i)
			if token < 0 {
				token = p.view(k.Drawn).int(int(-1 - token))
			}
			row := make([]float32, k.C)
			if own := int(token) - k.First; own >= 0 && own < k.Table.N/k.C {
				row = table.row(own*k.C, k.C)
			}
			y.setAt(i*k.C, row)
		}
	case *kernels.Embed:
		tokens, table, y := p.view(k.Tokens), p.view(k.Table), p.view(k.Y)
		for i := range k.Tokens.N {
			y.setAt(i*k.C, table.row(int(tokens.int(i))*k.C, k.C))
		}
	case *kernels.DecodeNorm:
		x, w, y := p.view(k.X), p.all(k.W), p.view(k.Y)
		for r := range k.Rows {
			for g := range k.Groups {
				y.setAt((r*k.Groups+g)*k.C, normed(x.row(r*k.Stride+g*k.C, k.C), w[g*k.C:], k.Eps))
			}
		}
	case *kernels.DecodeGate:
		x, y := p.view(k.X), p.view(k.Y)
		for i := range k.Rows * k.F {
			g, up := float64(x.get(i/k.F*2*k.F+i%k.F)), float64(x.get(i/k.F*2*k.F+i%k.F+k.F))
			at := g
			if k.GELU {
				at = 2 * math.Sqrt(2/math.Pi) * (g + 0.044715*g*g*g)
			}
			y.set(i, float32(g/(1+math.Exp(-at))*up))
		}
	case *kernels.DecodeOutputGate:
		g, o := p.view(k.G), p.view(k.O)
		for i := range k.Rows * k.Width {
			by := float64(g.get(i/k.Width*k.Stride + i%k.Width/k.Per))
			o.set(i, float32(float64(o.get(i))/(1+math.Exp(-by))))
		}
	case *kernels.Add:
		x, y := p.all(k.X), p.all(k.Y)
		for i := range x {
			x[i] += y[i]
		}
		p.view(k.Out).setAll(x)
	case *kernels.Expand:
		a, b, y := p.view(k.A), p.view(k.B), p.view(k.Y)
		for i := range k.Rows * k.H * k.D {
			row, h, d, sum := i/(k.H*k.D), i/k.D%k.H, i%k.D, float32(0)
			for r := range k.R {
				sum += a.get(row*k.LdA+h*k.R+r) * b.get(row*k.LdB+r*k.D+d)
			}
			y.set(i, k.Scale*sum)
		}
	case *kernels.DecodeFactors:
		p.factors(k)
	case *kernels.AddScaled:
		x, z, a := p.all(k.X), p.all(k.Z), p.all(k.A)
		for i := range x {
			x[i] += a[i%k.C] * z[i]
		}
		p.view(k.Y).setAll(x)
	case *kernels.Repeat:
		x, y := p.all(k.X), make([]float32, k.Rows*k.Times*k.Inner)
		for i := range y {
			y[i] = k.Scale * x[i/(k.Times*k.Inner)*k.Inner+i%k.Inner]
		}
		p.view(k.Y).setAll(y)
	case *kernels.Fold:
		x, y := p.all(k.X), make([]float32, k.Rows*k.Inner)
		for i := range k.Rows * k.Times * k.Inner {
			y[i/(k.Times*k.Inner)*k.Inner+i%k.Inner] += k.Scale * x[i]
		}
		p.view(k.Y).setAll(y)
	case *kernels.DecodePlace:
		p.place(k)
	case *kernels.DecodeGather:
		x, y := p.view(k.X), p.view(k.Y)
		for b := range k.B {
			for s := range k.S {
				y.setAt((b*k.S+s)*k.Width, x.row(p.slot(k.Pages, b*k.MaxPages, k.Page, s)*k.Width, k.Width))
			}
		}
	case *kernels.DecodePlaceFP8:
		p.placeFP8(k)
	case *kernels.DecodeGatherFP8:
		y := p.view(k.Y)
		for i := range k.B * k.S * k.Heads {
			b, s, h := i/(k.S*k.Heads), i/k.Heads%k.S, i%k.Heads
			at := p.slot(k.Pages, b*k.MaxPages, k.Page, s)
			y.setAt(i*k.Dim, p.vector(k.X, k.Scales, at, h, k.Heads, k.Dim, k.Page))
		}
	case *kernels.NoiseFP8:
		codes, scales, r := p.bytes(k.X), p.bytes(k.Scales), rand.New(rand.NewPCG(k.Seed, 1))
		for i := range k.X.N {
			codes.set(i, ref.ToE4M3(float32(128*r.NormFloat64())))
		}
		for i := range k.Scales.N {
			scales.set(i, 127-7)
		}
	case *kernels.Decode:
		p.decode(k)
	case *kernels.DecodePlain:
		p.plain(k)
	case *kernels.StepAttend:
		p.stepAttend(k)
	case *kernels.Attention:
		p.attention(k)
	case fill:
		v := p.view(k.b)
		for i := range v.cells {
			v.cells[i] = uint32(k.value) * 0x01010101
		}
	case copying:
		copy(p.view(k.to).cells, p.view(k.from).cells)
	case *kernels.Noise:
		v, r := p.view(k.X), rand.New(rand.NewPCG(k.Seed, 1))
		for i := range v.len() {
			v.set(i, float32(r.NormFloat64()))
		}
	default:
		p.product(k)
	}
}

// product is the kernels of products, and of what is drawn from the last.
func (p *simulation) product(k launcher) {
	switch k := k.(type) {
	case *kernels.Gemm:
		y := p.all(k.C)
		(&ref.Gemm{
			TransA: k.TransA, TransB: k.TransB, M: k.M, N: k.N, K: k.K, A: p.all(k.A), B: p.all(k.B), C: y, Lda: k.Lda,
			Ldb: k.Ldb, Ldc: k.Ldc,
			Batch: k.Batch, StrideA: k.StrideA, StrideB: k.StrideB, StrideC: k.StrideC, Bias: p.all(k.Bias),
			Accumulate: k.Accumulate,
		}).Run()
		p.view(k.C).setAll(y)
	case *kernels.StepProduct:
		y := p.all(k.Y)
		(&ref.StepProduct{
			Rows: k.Rows, In: k.In, Out: k.Out, LdX: k.LdX, LdY: k.LdY, X: p.all(k.X), Norm: p.all(k.Norm), W: p.all(k.W),
			Bias: p.all(k.Bias), Y: y,
			Eps: k.Eps, Add: k.Add, Gate: k.Gate,
		}).Run()
		p.view(k.Y).setAll(y)
	case *kernels.StepHeads:
		y := p.all(k.Y)
		(&ref.StepHeads{
			Rows: k.Rows, H: k.H, In: k.In, Out: k.Out, Copy: k.Copy, LdX: k.LdX, StepX: k.StepX, LdY: k.LdY, StepY: k.StepY,
			X: p.all(k.X), W: p.all(k.W), Bias: p.all(k.Bias), Y: y,
		}).Run()
		p.view(k.Y).setAll(y)
	case *kernels.StepLogits:
		y, ld := make([]float32, k.Rows*k.V), max(k.LdY, k.V)
		(&ref.StepProduct{Rows: k.Rows, In: k.C, Out: k.V, LdX: k.LdX, X: p.all(k.X), Norm: p.all(k.Norm),
			W: p.all(k.W), Y: y, Eps: k.Eps}).Run()
		best := make([]int32, k.Rows)
		(&ref.StepPick{Rows: k.Rows, V: k.V, Logits: y, Tokens: best}).Run()
		for r, token := range best {
			row := y[r*k.V : (r+1)*k.V]
			p.view(k.Logits).setAt(r*ld, row)
			p.view(k.Best).setInt(r*kernels.StepBests, token) // what StepPick finds
			p.view(k.Best).set(r*kernels.StepBests+1, row[token])
		}
	case *kernels.StepPick:
		for r := range k.Rows {
			p.view(k.Tokens).setInt(r, p.view(k.Best).int(r*kernels.StepBests))
		}
	case *kernels.DecodeLargest:
		best := make([]int32, k.Rows)
		(&ref.StepPick{Rows: k.Rows, V: k.V, Logits: p.all(k.Logits), Tokens: best}).Run()
		for r, token := range best {
			p.view(k.Tokens).setInt(r, token)
		}
	case *kernels.StepSample:
		p.sample(k)
	default:
		panic(fmt.Sprintf("simulated: no %T", k))
	}
}

func normed(x, w []float32, eps float32) []float32 {
	var squares float64
	for _, v := range x {
		squares += float64(v) * float64(v)
	}
	r := 1 / math.Sqrt(squares/float64(len(x))+float64(eps))
	for i := range x {
		x[i] = float32(float64(x[i]) * r * float64(w[i]))
	}
	return x
}

func (p *simulation) sample(k *kernels.StepSample) {
	words := kernels.SeenWords(k.V)
	choices := device.Buffer{Ptr: k.Choices.Ptr, N: k.Choices.N / 4, Type: device.I32}
	c, seen, tokens := p.view(choices), p.view(k.Seen), make([]int32, k.Rows)
	s := ref.StepSample{Rows: k.Rows, V: k.V, Logits: p.all(k.Logits), Seen: make([]uint32, k.Rows*words), Tokens: tokens}
	for i := range s.Seen {
		s.Seen[i] = uint32(seen.int(i))
	}
	for r := range k.Rows {
		var packed [kernels.StepSamplingWords]int32
		for i := range packed {
			packed[i] = c.int(r*len(packed) + i)
		}
		var x kernels.StepSampling
		x.Unpack(packed[:])
		s.Choices = append(s.Choices, ref.StepSampling{
			Temperature: x.Temperature, TopP: x.TopP, MinP: x.MinP, Repetition: x.Repetition, TopK: x.TopK, U: x.U,
		})
	}
	s.Run()
	for i, x := range s.Seen {
		seen.setInt(i, int32(x))
	}
	for r, token := range tokens {
		p.view(k.Tokens).setInt(r, token)
	}
}
