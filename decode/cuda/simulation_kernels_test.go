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
			y.setAt(i*k.C, table.row(int(token)*k.C, k.C))
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
			y.set(i, float32(g/(1+math.Exp(-g))*up))
		}
	case *kernels.Add:
		x, y := p.all(k.X), p.all(k.Y)
		for i := range x {
			x[i] += y[i]
		}
		p.view(k.Out).setAll(x)
	case *kernels.DecodePlace:
		p.place(k)
	case *kernels.DecodeGather:
		x, y := p.view(k.X), p.view(k.Y)
		for b := range k.B {
			for s := range k.S {
				y.setAt((b*k.S+s)*k.Width, x.row(p.slot(k.Pages, b*k.MaxPages, k.Page, s)*k.Width, k.Width))
			}
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
			TransA: k.TransA, TransB: k.TransB, M: k.M, N: k.N, K: k.K, A: p.all(k.A), B: p.all(k.B), C: y, Lda: k.Lda, Ldb: k.Ldb, Ldc: k.Ldc,
			Batch: k.Batch, StrideA: k.StrideA, StrideB: k.StrideB, StrideC: k.StrideC, Bias: p.all(k.Bias), Accumulate: k.Accumulate,
		}).Run()
		p.view(k.C).setAll(y)
	case *kernels.StepProduct:
		y := p.all(k.Y)
		(&ref.StepProduct{
			Rows: k.Rows, In: k.In, Out: k.Out, LdX: k.LdX, LdY: k.LdY, X: p.all(k.X), Norm: p.all(k.Norm), W: p.all(k.W), Bias: p.all(k.Bias), Y: y,
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
		y := p.all(k.Logits)
		(&ref.StepProduct{Rows: k.Rows, In: k.C, Out: k.V, LdX: k.LdX, X: p.all(k.X), Norm: p.all(k.Norm), W: p.all(k.W), Y: y, Eps: k.Eps}).Run()
		p.view(k.Logits).setAll(y)
		best := make([]int32, k.Rows)
		(&ref.StepPick{Rows: k.Rows, V: k.V, Logits: y, Tokens: best}).Run()
		for r, token := range best {
			p.view(k.Best).setInt(r*kernels.StepBests, token) // what StepPick finds
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

// turned rotates a row by its position's line of a table.
func turned(x []float32, table view, position int) []float32 {
	h, y := len(x)/2, make([]float32, len(x))
	for i := range h {
		c, s := table.get((position*h+i)*2), table.get((position*h+i)*2+1)
		y[i], y[h+i] = x[i]*c-x[h+i]*s, x[h+i]*c+x[i]*s
	}
	return y
}

// slot is where a token of a request lies whose line of the page table begins at line.
func (p *simulation) slot(pages device.Buffer, line, page, token int) int {
	return int(p.view(pages).int(line+token/page))*page + token%page
}

func (p *simulation) place(k *kernels.DecodePlace) {
	positions, rows := p.view(k.Positions), p.view(k.Rows)
	for i := range k.N {
		row, position := int(rows.int(i)), int(positions.int(i))
		if row < 0 {
			continue
		}
		for _, part := range k.Parts {
			at := i
			if part.Cache {
				at = p.slot(k.Pages, row*k.MaxPages, k.Page, position)
			}
			// Y's buffer may begin before the first element that is written: columns before First stay
			from := part.Y.Ptr + device.Ptr(part.First*part.Y.Type.Size())
			y := p.view(device.Buffer{Ptr: from, N: at*part.YRow + (part.Heads-1)*part.YHead + part.Dim - part.First, Type: part.Y.Type})
			for h := range part.Heads {
				x := p.view(part.X).row(i*part.XRow+h*part.XHead, part.Dim)
				if !part.Norm.Nil() {
					x = normed(x, p.all(part.Norm)[h*part.Dim:], k.Eps)
				}
				if still := part.Dim - part.Turn; part.Turn > 0 {
					copy(x[still:], turned(x[still:], p.view(part.Table), position))
				}
				y.setAt(at*part.YRow+h*part.YHead, x[part.First:])
			}
		}
	}
}

// A paged is a request's keys and values in a cache.
type paged struct {
	P, R, Dv, G, kDim, vDim, page int
	k, v, kRope, pages            device.Buffer
	line                          int // of the page table
}

// read is S keys [S, P+R] and values [S, Dv] of kv head g.
func (p *simulation) read(c paged, g, S int) (keys, values []float32) {
	for s := range S {
		at := p.slot(c.pages, c.line, c.page, s)
		keys = append(keys, p.view(c.k).row((at*c.G+g)*c.kDim, c.P)...)
		if c.R > 0 {
			keys = append(keys, p.view(c.kRope).row(at*c.R, c.R)...)
		}
		values = append(values, p.view(c.v).row((at*c.G+g)*c.vDim, c.Dv)...)
	}
	return keys, values
}

// attended is softmax(scale·q·keysᵀ)·values over the first S keys.
func attended(q, keys, values []float32, S, Dv int, scale float32) []float32 {
	o, w := make([]float32, Dv), make([]float64, S)
	top, sum, E := math.Inf(-1), 0.0, len(q)
	for s := range w {
		for c, x := range q {
			w[s] += float64(x) * float64(keys[s*E+c])
		}
		w[s] *= float64(scale)
		top = max(top, w[s])
	}
	for s := range w {
		w[s] = math.Exp(w[s] - top)
		sum += w[s]
	}
	for c := range o {
		var x float64
		for s := range w {
			x += w[s] * float64(values[s*Dv+c])
		}
		if S > 0 {
			o[c] = float32(x / sum)
		}
	}
	return o
}

func (p *simulation) decode(k *kernels.Decode) {
	c := paged{P: k.P, R: k.R, Dv: k.Dv, G: k.G, kDim: k.Dv, vDim: k.Dv, page: k.Page, k: k.K, v: k.V, kRope: k.KRope, pages: k.Pages}
	if c.v.Nil() {
		c.v = c.k
	}
	E, share := k.P+k.R, k.H/k.G
	for b := range k.B {
		c.line = b * k.MaxPages
		length := int(p.view(k.Lengths).int(b))
		for g := range k.G {
			keys, values := p.read(c, g, length)
			for i := range k.T * share {
				t, h := i/share, g*share+i%share
				row := (b*k.T+t)*k.H + h
				o := attended(p.view(k.Q).row(row*E, E), keys, values, max(0, length-k.T+t+1), k.Dv, k.Scale)
				p.view(k.O).setAt(row*k.Dv, o)
			}
		}
	}
}

func (p *simulation) plain(k *kernels.DecodePlain) {
	c := paged{P: k.P, R: k.R, Dv: k.Dv, G: k.G, kDim: k.KDim, vDim: k.VDim, page: k.Page, k: k.K, v: k.V, kRope: k.KRope, pages: k.Pages}
	E, share := k.P+k.R, k.H/k.G
	for i := range k.N {
		row, S := int(p.view(k.Rows).int(i)), 0
		if row >= 0 {
			c.line, S = row*k.MaxPages, int(p.view(k.Positions).int(i))+1
		}
		for g := range k.G {
			keys, values := p.read(c, g, S)
			for h := g * share; h < (g+1)*share; h++ {
				p.view(k.O).setAt((i*k.H+h)*k.Dv, attended(p.view(k.Q).row((i*k.H+h)*E, E), keys, values, S, k.Dv, k.Scale))
			}
		}
	}
}

func (p *simulation) stepAttend(k *kernels.StepAttend) {
	c := paged{P: k.P, R: k.R, Dv: k.Dv, G: k.G, kDim: k.Dv, vDim: k.Dv, page: k.Page, k: k.KCache, v: k.VCache, kRope: k.RopeCache, pages: k.Pages}
	if k.R > 0 {
		c.v = c.k
	}
	W, E, share := k.Dv, k.P+k.R, k.H/k.G
	for b := range k.B {
		S := int(p.view(k.Lengths).int(b))
		if S == 0 {
			continue
		}
		c.line = b * k.MaxPages
		at, table := p.slot(k.Pages, c.line, k.Page, S-1), p.view(k.Table)
		for g := range k.G {
			x := p.view(k.K).row(b*k.KRow+g*W, W)
			switch {
			case k.R == 0:
				copy(x[W-k.Turn:], turned(x[W-k.Turn:], table, S-1))
				p.view(k.VCache).setAt((at*k.G+g)*W, p.view(k.V).row(b*k.VRow+g*W, W))
			case !k.Norm.Nil():
				x = normed(x, p.all(k.Norm)[g*W:], k.Eps)
			}
			p.view(k.KCache).setAt((at*k.G+g)*W, x)
		}
		if k.R > 0 {
			p.view(k.RopeCache).setAt(at*k.R, turned(p.view(k.KRope).row(b*k.KRopeRow, k.R), table, S-1))
		}
		for g := range k.G {
			keys, values := p.read(c, g, S)
			for h := g * share; h < (g+1)*share; h++ {
				q := append(p.view(k.Q).row(b*k.QRow+h*k.QHead, E-k.Turn), turned(p.view(k.QTurn).row(b*k.QTurnRow+h*k.QTurnHead, k.Turn), table, S-1)...)
				p.view(k.O).setAt((b*k.H+h)*k.Dv, attended(q, keys, values, S, k.Dv, k.Scale))
			}
		}
	}
}

func (p *simulation) attention(k *kernels.Attention) {
	E, share := k.P+k.R, k.H/k.G
	for b := range k.B {
		for g := range k.G {
			var keys, values []float32
			for t := range k.Start + k.T {
				at := b*(k.Start+k.T) + t
				keys = append(keys, p.view(k.K).row((at*k.G+g)*k.KStride, k.P)...)
				if k.R > 0 {
					keys = append(keys, p.view(k.KRope).row(at*k.R, k.R)...)
				}
				values = append(values, p.view(k.V).row((at*k.G+g)*k.VStride, k.Dv)...)
			}
			for i := range k.T * share {
				t, h := i/share, g*share+i%share
				row := (b*k.T+t)*k.H + h
				p.view(k.O).setAt(row*k.Dv, attended(p.view(k.Q).row(row*E, E), keys, values, k.Start+t+1, k.Dv, k.Scale))
			}
		}
	}
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
