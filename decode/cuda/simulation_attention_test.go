//go:build gpu

package cuda

import (
	"math"
	"slices"

	"headroom/internal/device"
	"headroom/kernels"
	"headroom/kernels/ref"
)

// rotated rotates a row by its position's line of a table.
func rotated(x []float32, table view, position int) []float32 {
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
			y := p.view(device.Buffer{Ptr: from, N: at*part.YRow + (part.Heads-1)*part.YHead + part.Dim - part.First,
				Type: part.Y.Type})
			for h := range part.Heads {
				x := p.view(part.X).row(i*part.XRow+h*part.XHead, part.Dim)
				still := part.Dim - part.Rotate
				turned := x[still:]
				if part.Rotate > 0 { // of what was there: the kernel norms the other columns alone
					turned = rotated(turned, p.view(part.Table), position)
				}
				if !part.Norm.Nil() {
					x = normed(slices.Clone(x), p.all(part.Norm)[h*part.Dim:], k.Eps)
				}
				copy(x[still:], turned)
				for c := range x {
					if part.Cache && p.halves {
						x[c] = device.FromBF16(device.ToBF16(x[c]))
					}
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
	kScale, vScale                device.Buffer // of bytes
	line                          int           // of the page table
	first                         int           // token that is read
	turn                          int           // columns of a key that are rotated when it is read, by
	table                         device.Buffer
}

// read is S keys [S, P+R] and values [S, Dv] of kv head g, without those before the first.
func (p *simulation) read(c paged, g, S int) (keys, values []float32) {
	for s := c.first; s < S; s++ {
		at := p.slot(c.pages, c.line, c.page, s)
		key := p.vector(c.k, c.kScale, at, g, c.G, c.kDim, c.page)[:c.P]
		if c.turn > 0 {
			copy(key[c.P-c.turn:], rotated(key[c.P-c.turn:], p.view(c.table), s))
		}
		keys = append(keys, key...)
		if c.R > 0 {
			keys = append(keys, p.view(c.kRope).row(at*c.R, c.R)...)
		}
		values = append(values, p.vector(c.v, c.vScale, at, g, c.G, c.vDim, c.page)[:c.Dv]...)
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
	c := paged{P: k.P, R: k.R, Dv: k.Dv, G: k.G, kDim: k.Dv, vDim: k.Dv, page: k.Page, k: k.K, v: k.V,
		kRope: k.KRope, pages: k.Pages, kScale: k.KScale, vScale: k.VScale}
	if c.v.Nil() {
		c.v, c.vScale = c.k, c.kScale
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
	c := paged{P: k.P, R: k.R, Dv: k.Dv, G: k.G, kDim: k.KDim, vDim: k.VDim, page: k.Page, k: k.K, v: k.V,
		kRope: k.KRope, pages: k.Pages, kScale: k.KScale, vScale: k.VScale, turn: k.Turn, table: k.Table}
	E, share := k.P+k.R, k.H/k.G
	for i := range k.N {
		row, S := int(p.view(k.Rows).int(i)), 0
		if row >= 0 {
			c.line, S = row*k.MaxPages, int(p.view(k.Positions).int(i))+1
			c.first = ref.FirstKey(S-1, k.Window)
		}
		for g := range k.G {
			keys, values := p.read(c, g, S)
			for h := g * share; h < (g+1)*share; h++ {
				q := p.view(k.Q).row((i*k.H+h)*E, E)
				p.view(k.O).setAt((i*k.H+h)*k.Dv, attended(q, keys, values, max(0, S-c.first), k.Dv, k.Scale))
			}
		}
	}
}

func (p *simulation) factors(k *kernels.DecodeFactors) {
	for i := range k.N {
		row, S := int(p.view(k.Rows).int(i)), 0
		if row >= 0 {
			S = int(p.view(k.Positions).int(i)) + 1
		}
		first := max(0, ref.FirstKey(S-1, k.Window))
		for h := range k.H {
			var keys, values []float32
			for s := first; s < S; s++ {
				at := p.slot(k.Pages, row*k.MaxPages, k.Page, s)
				for _, x := range []struct {
					heads, columns device.Buffer
					to             *[]float32
				}{{k.AK, k.BK, &keys}, {k.AV, k.BV, &values}} {
					sum := make([]float32, k.D)
					for r := range k.R {
						head := p.view(x.heads).get((at*k.H+h)*k.R + r)
						for d, z := range p.view(x.columns).row((at*k.R+r)*k.D, k.D) {
							sum[d] += head * z / float32(k.R)
						}
					}
					*x.to = append(*x.to, sum...)
				}
			}
			q := p.view(k.Q).row((i*k.H+h)*k.D, k.D)
			p.view(k.O).setAt((i*k.H+h)*k.D, attended(q, keys, values, max(0, S-first), k.D, k.Scale))
		}
	}
}

func (p *simulation) stepAttend(k *kernels.StepAttend) {
	c := paged{P: k.P, R: k.R, Dv: k.Dv, G: k.G, kDim: k.Dv, vDim: k.Dv, page: k.Page, k: k.KCache, v: k.VCache,
		kRope: k.RopeCache, pages: k.Pages}
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
				copy(x[W-k.Rotate:], rotated(x[W-k.Rotate:], table, S-1))
				p.view(k.VCache).setAt((at*k.G+g)*W, p.view(k.V).row(b*k.VRow+g*W, W))
			case !k.Norm.Nil():
				x = normed(x, p.all(k.Norm)[g*W:], k.Eps)
			}
			p.view(k.KCache).setAt((at*k.G+g)*W, x)
		}
		if k.R > 0 {
			p.view(k.RopeCache).setAt(at*k.R, rotated(p.view(k.KRope).row(b*k.KRopeRow, k.R), table, S-1))
		}
		for g := range k.G {
			keys, values := p.read(c, g, S)
			for h := g * share; h < (g+1)*share; h++ {
				q := append(p.view(k.Q).row(b*k.QRow+h*k.QHead, E-k.Rotate),
					rotated(p.view(k.QRotate).row(b*k.QRotateRow+h*k.QRotateHead, k.Rotate), table, S-1)...)
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
