package host

import (
	"math"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/graph"
	"headroom/kernels/ref"
)

// memory is a graph.Memory of this machine.
type memory []float32

// Bytes is the size.
func (m memory) Bytes() int { return 4 * len(m) }

func floats(b graph.Buf) []float32 { return b.Mem.(memory)[b.Off/4:][:b.Len] }

// Release frees all values but that of Embed.
func (c *Device) Release() { c.used = 0 }

// take allocates n elements. An arena that is too small is replaced; values inside the old one keep it alive.
func (c *Device) take(n int) graph.Buf {
	if c.used+n > len(c.arena) {
		c.arena, c.used = make(memory, max(n, 2*len(c.arena))), 0
	}
	b := graph.Buf{Mem: c.arena, Off: 4 * c.used, Len: n}
	c.used += n
	return b
}

func (c *Device) tokens() int { return len(c.batch.Tokens) }

// Embed looks up the batch's tokens. Of several shards each has some of them.
func (c *Device) Embed(table graph.Param) graph.Buf {
	V, C := table.Shape[0], table.Shape[1]
	n := c.tokens() * C
	if len(c.x) < n {
		c.x = make(memory, n)
	}
	x := graph.Buf{Mem: c.x, Len: n}
	if V == c.model.Vocab() {
		(&ref.Embed{Tokens: c.batch.Tokens, Table: c.model.Weights[table.Name], Y: floats(x), C: C}).Run()
		return x
	}
	clear(floats(x))
	for i, t := range c.batch.Tokens {
		if own := int(t) - c.model.First; own >= 0 && own < V {
			copy(floats(x)[i*C:(i+1)*C], c.model.Weights[table.Name][own*C:])
		}
	}
	c.sum(floats(x))
	return x
}

// Linear is x·w + bias.
func (c *Device) Linear(x graph.Buf, w graph.Param, bias *graph.Param) graph.Buf {
	n, in, out := 1, w.Shape[len(w.Shape)-2], w.Shape[len(w.Shape)-1]
	if len(w.Shape) == 3 {
		n = w.Shape[0]
	}
	rows := x.Len / (n * in)
	y := c.take(rows * n * out)
	g := ref.Gemm{
		M: rows, N: out, K: in, A: floats(x), B: c.model.Weights[w.Name], C: floats(y), Lda: n * in, Ldb: out, Ldc: n * out,
		Batch: n, StrideA: in, StrideB: in * out, StrideC: out,
	}
	if bias != nil {
		g.Bias = c.model.Weights[bias.Name]
	}
	g.Run()
	return y
}

// Logits is x·wᵀ. Of several shards each has some columns.
func (c *Device) Logits(x graph.Buf, w graph.Param) graph.Buf {
	V, C, all := w.Shape[0], w.Shape[1], c.model.Vocab()
	y := c.take(x.Len / C * all)
	if V < all {
		clear(floats(y))
	}
	(&ref.Gemm{TransB: true, M: x.Len / C, N: V, K: C, A: floats(x), B: c.model.Weights[w.Name],
		C: floats(y)[c.model.First:], Lda: C, Ldb: C, Ldc: all, Batch: 1}).Run()
	if V < all {
		c.sum(floats(y))
	}
	return y
}

// RMSNorm normalises rows, or each part of them where w has more than one.
func (c *Device) RMSNorm(x graph.Buf, w graph.Param, eps float64) graph.Buf {
	n, dim := 1, w.Shape[len(w.Shape)-1]
	if len(w.Shape) == 2 {
		n = w.Shape[0]
	}
	y, rstd := c.take(x.Len), c.take(x.Len/dim)
	(&ref.RMSNorm{X: floats(x), W: c.model.Weights[w.Name], Y: floats(y), Rstd: floats(rstd), Rows: x.Len / (n * dim),
		Groups: n, C: dim, Eps: float32(eps)}).Run()
	return y
}

// Add is x += y, the sum of all shards' y where there are several.
func (c *Device) Add(x, y graph.Buf) {
	if c.sum != nil {
		c.sum(floats(y))
	}
	(&ref.Add{X: floats(x), Y: floats(y), Out: floats(x)}).Run()
}

// Scale is x *= by.
func (c *Device) Scale(x graph.Buf, by float64) {
	rows := c.tokens()
	(&ref.Repeat{X: floats(x), Y: floats(x), Rows: rows, Times: 1, Inner: x.Len / rows, Scale: float32(by)}).Run()
}

// GeGLU is gelu(gate)·up, over gate.
func (c *Device) GeGLU(gate, up graph.Buf) graph.Buf {
	(&ref.GeGLU{Gate: floats(gate), Up: floats(up), Y: floats(gate)}).Run()
	return gate
}

// SwiGLU is silu(gate)·up, over gate.
func (c *Device) SwiGLU(gate, up graph.Buf) graph.Buf {
	(&ref.SwiGLU{Gate: floats(gate), Up: floats(up), Y: floats(gate)}).Run()
	return gate
}

// Expand is scale·A·B of each token.
func (c *Device) Expand(a, b graph.Buf, heads, dim int, scale float64) graph.Buf {
	n, y := c.tokens(), c.take(c.tokens()*heads*dim)
	(&ref.Expand{A: floats(a), B: floats(b), Y: floats(y), Rows: n, H: heads, R: a.Len / (n * heads), D: dim,
		Scale: float32(scale)}).Run()
	return y
}

// AddScaled is x + w·z, over x.
func (c *Device) AddScaled(x, z graph.Buf, w graph.Param) graph.Buf {
	n := w.Shape[0]
	(&ref.AddScaled{X: floats(x), Z: floats(z), A: c.model.Weights[w.Name], Y: floats(x), Rows: x.Len / n, C: n}).Run()
	return x
}

// Columns copies the first n columns.
func (c *Device) Columns(x graph.Buf, n int) graph.Buf {
	rows := c.tokens()
	y := c.take(rows * n)
	(&ref.Columns{X: floats(x), Y: floats(y), From: x.Len / rows, To: n}).Run()
	return y
}

// Gate is o·sigmoid(g), over o.
func (c *Device) Gate(o, g graph.Buf) graph.Buf {
	(&ref.Gate{O: floats(o), G: floats(g), Y: floats(o), Per: o.Len / g.Len}).Run()
	return o
}

// Select gathers the rows that the batch scores.
func (c *Device) Select(x graph.Buf) graph.Buf {
	C := x.Len / c.tokens()
	y := c.take(len(c.batch.Score) * C)
	for i, t := range c.batch.Score {
		copy(floats(y)[i*C:(i+1)*C], floats(x)[int(t)*C:])
	}
	return y
}

// AttendLatent attends absorbed, to prompts too.
func (c *Device) AttendLatent(layer int, q graph.Buf, a attention.LatentRead) graph.Buf {
	return c.expand(c.Attend(layer, c.absorb(q, a), a.Absorbed()), a)
}

// absorb is q·Wukᵀ of each head and each latent that it reads, with the rotated columns behind it: [N, H·(D+R)] ->
// [N, b·H·(L+R)], the heads of one latent after those of another.
func (c *Device) absorb(q graph.Buf, a attention.LatentRead) graph.Buf {
	n, L := a.Latents()
	heads, d, r := a.Reads(), a.D, a.R
	own, made, per, N := heads/n, a.Heads()/n, heads/a.Heads(), c.tokens()
	y := c.take(N * heads * (L + r))
	in, out := floats(q), floats(y)
	key, _ := a.Factors()
	for i := range n {
		from := i / max(1, a.Branches) * own // the first head that reads latent i
		for j := range per {
			(&ref.Gemm{
				TransB: true, M: N, N: L, K: d, A: in[(from+j)*(d+r):], B: c.model.Weights[a.Wukv.Name][i*L*made*2*d:],
				C:   out[(i*own+j)*(L+r):],
				Lda: a.H * (d + r), Ldb: made * 2 * d, Ldc: heads * (L + r),
				Batch: made, StrideA: per * (d + r), StrideB: 2 * d, StrideC: per * (L + r),
			}).Run()
		}
		for at := range N * own {
			token, head := at/own, at%own
			to := out[(token*heads+i*own+head)*(L+r):][:L+r]
			scale(to[:L], key)
			copy(to[L:], in[(token*a.H+from+head)*(d+r)+d:])
		}
	}
	return y
}

// expand is o·Wuv of each head, summed over the latents that it reads, and its bias: [N, b·H·L] -> [N, H·D].
func (c *Device) expand(o graph.Buf, a attention.LatentRead) graph.Buf {
	n, L := a.Latents()
	heads, d := a.Reads(), a.D
	own, made, per, N := heads/n, a.Heads()/n, heads/a.Heads(), c.tokens()
	y := c.take(N * a.H * d)
	out := floats(y)
	for i := range N * a.H {
		clear(out[i*d : (i+1)*d])
		if a.Bukv != nil { // [n, (M/n)·2D] is [M, 2D]
			copy(out[i*d:(i+1)*d], c.model.Weights[a.Bukv.Name][i%a.H/per*2*d+d:])
		}
	}
	for i := range n {
		from := i / max(1, a.Branches) * own
		for j := range per {
			(&ref.Gemm{
				M: N, N: d, K: L, A: floats(o)[(i*own+j)*L:], B: c.model.Weights[a.Wukv.Name][i*L*made*2*d+d:],
				C:   out[(from+j)*d:],
				Lda: heads * L, Ldb: made * 2 * d, Ldc: a.H * d, Accumulate: true,
				Batch: made, StrideA: per * L, StrideB: 2 * d, StrideC: per * d,
			}).Run()
		}
	}
	_, value := a.Factors()
	scale(out, value)
	return y
}

func scale(x []float32, by float64) {
	if by == 1 {
		return
	}
	for i := range x {
		x[i] *= float32(by)
	}
}

// A rotation is of the last r columns of each head.
type rotation struct {
	r      int
	rotary graph.Rotary
}

// A rotary has the cosines and sines of positions [positions, r/2], as far as a pass came.
type rotary struct {
	inverse  []float64 // the angle of each pair from one position to the next
	cos, sin []float32
}

// upTo is the rotary of a rotation with the positions below n.
func (c *Device) upTo(n int, key rotation) *rotary {
	t := c.rotaries[key]
	if t == nil {
		t = &rotary{}
		for i := range key.r / 2 {
			t.inverse = append(t.inverse, key.rotary.Frequency(i, key.r))
		}
		c.rotaries[key] = t
	}
	for have := len(t.cos) / len(t.inverse); have < n; have++ {
		for _, f := range t.inverse {
			sin, cos := math.Sincos(float64(have) * f)
			t.cos, t.sin = append(t.cos, float32(cos)), append(t.sin, float32(sin))
		}
	}
	return t
}

// turn rotates the last columns of each head of a token at a position.
func (t *rotary) turn(token []float32, heads, position int) {
	h, width := len(t.inverse), len(token)/heads
	cos, sin := t.cos[position*h:][:h], t.sin[position*h:][:h]
	for end := width; end <= len(token); end += width {
		a, b := token[end-2*h:end-h], token[end-h:end]
		for j := range h {
			a[j], b[j] = a[j]*cos[j]-b[j]*sin[j], b[j]*cos[j]+a[j]*sin[j]
		}
	}
}

// Rope rotates in place.
func (c *Device) Rope(x graph.Buf, heads, r int, by graph.Rotary) graph.Buf {
	data := floats(x)
	width := len(data) / c.tokens()
	for i, p := range c.batch.Positions {
		c.upTo(int(p)+1, rotation{r, by}).turn(data[i*width:][:width], heads, int(p))
	}
	return x
}

// Append writes the tokens' parts into their pages.
func (c *Device) Append(layer, at int, x graph.Buf) {
	s := c.cache[layer][at]
	width := s.heads * s.dim
	for _, row := range c.batch.Rows {
		pages := c.pages(layer, row)
		for t := range row.T {
			s.put(place(pages, row.Start+t), floats(x)[(row.From+t)*width:][:width])
		}
	}
}

// pages are those of a row in a layer.
func (c *Device) pages(layer int, row decode.Row) []int32 {
	if c.ends[layer] {
		return row.Tail
	}
	return row.Pages
}

// place is where a token lies in a slot.
func place(pages []int32, position int) int {
	return int(pages[position/decode.PageTokens])*decode.PageTokens + position%decode.PageTokens
}

// Attend reads the cache.
func (c *Device) Attend(layer int, q graph.Buf, a attention.CacheRead) graph.Buf {
	y := c.take(c.tokens() * a.H * a.Dv)
	for _, row := range c.batch.Rows {
		row.Pages = c.pages(layer, row)
		c.scratch.turn = nil
		if a.Turn > 0 {
			c.scratch.turn = c.upTo(row.Start+row.T, rotation{a.Turn, a.Rotary})
		}
		c.scratch.attend(c.cache[layer], row, a, floats(q), floats(y))
	}
	return y
}
