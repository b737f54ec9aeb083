//go:build gpu

package cuda

import (
	"errors"
	"fmt"
	"slices"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/kernels/ref"
)

// weights are a model's weights on the GPU. Those that are multiplied with one value lie side by side, all others as
// they are.
type weights struct {
	of     map[string][]float32 // the model's
	queue  queue
	t      device.Type
	group  map[product]*packed
	single map[string]device.Buffer
	heads  map[string]latentHeads // by the name of Wukv
}

// latentHeads are the parts of Wukv [n, L, (M/n)·2D] for each query head, or each pair of a head and a latent that it
// reads, as absorbed attention multiplies with them: the factors of the read are in them.
type latentHeads struct {
	uk   device.Buffer // [H, L, D]
	uv   device.Buffer // [H, D, L]
	bias device.Buffer // of values, [H, D], or absent
}

// packed are weights [ΣOut, In], transposed, so that a column of a Param lies in a row, one Param after the other, and
// their biases [ΣOut], zero where a weight has none; or the n parts of one weight, [n, Out, In].
type packed struct {
	n, in, out int
	w, bias    device.Buffer
	column     map[product]int // where a weight's Out begins
}

// weightsOf uploads a model, once. At most two stay: a model and its draft.
func (b *backend) weightsOf(m *decode.Model) (*weights, error) {
	for _, w := range b.loaded {
		if same(w.of, m.Weights) {
			return w, nil
		}
	}
	if len(b.loaded) == 2 {
		if err := b.loaded[0].queue.close(); err != nil {
			return nil, err
		}
		b.loaded = b.loaded[1:]
	}
	q, err := b.queue(false)
	if err != nil {
		return nil, err
	}
	w := &weights{of: m.Weights, queue: q, t: b.t, group: map[product]*packed{}, single: map[string]device.Buffer{},
		heads: map[string]latentHeads{}}
	if err := w.load(m.Params(), groupsOf(m.Transformer)); err != nil {
		return nil, errors.Join(fmt.Errorf("decode: the weights: %w", err), q.close())
	}
	b.loaded = append(b.loaded, w)
	return w, nil
}

// same says that two models share their weights: the benchmark changes only a model's context.
func same(a, b map[string][]float32) bool {
	for name, w := range a {
		if v := b[name]; len(v) != len(w) || &v[0] != &w[0] {
			return false
		}
	}
	return len(a) == len(b)
}

func (w *weights) load(params []graph.Param, groups *groups) error {
	grouped := map[string]bool{}
	for _, g := range groups.all {
		p, err := w.pack(g)
		if err != nil {
			return err
		}
		for _, x := range g {
			w.group[x.product()], grouped[x.w.Name] = p, true
			if x.bias != nil {
				grouped[x.bias.Name] = true
			}
		}
	}
	factor := map[string]float64{}
	for _, r := range groups.reads {
		if r.latent != nil {
			factor[r.latent.Wukv.Name], _ = r.latent.Factors()
		}
	}
	for _, p := range params {
		if grouped[p.Name] {
			continue
		}
		var err error
		// kernels want a weight for each part of a norm
		values := slices.Repeat(w.of[p.Name], max(1, groups.norms[p.Name]))
		if f, ok := factor[p.Name]; ok && f != 1 {
			for i := range values {
				values[i] *= float32(f)
			}
		}
		if w.single[p.Name], err = w.put(values); err != nil {
			return err
		}
	}
	for _, r := range groups.reads {
		if r.latent == nil {
			continue
		}
		var err error
		if w.heads[r.latent.Wukv.Name], err = w.split(*r.latent); err != nil {
			return err
		}
	}
	return nil
}

// split divides Wukv and its bias, where it has one, into the parts of keys and of values, for every query head.
func (w *weights) split(a attention.LatentRead) (h latentHeads, err error) {
	n, L := a.Latents()
	x, made, D := w.of[a.Wukv.Name], a.Heads()/n, a.D
	per := a.Reads() / a.Heads()
	key, value := a.Factors()
	uk, uv := make([]float32, a.Reads()*L*D), make([]float32, a.Reads()*D*L)
	for head := range a.Reads() {
		m := head / per
		for l := range L {
			row := x[((m/made*L+l)*made+m%made)*2*D:][:2*D]
			for i := range D {
				uk[(head*L+l)*D+i] = row[i] * float32(key)
				uv[(head*D+i)*L+l] = row[D+i] * float32(value)
			}
		}
	}
	if h.uk, err = w.put(uk); err != nil {
		return h, err
	}
	if h.uv, err = w.put(uv); err != nil || a.Bukv == nil {
		return h, err
	}
	bias, values := w.of[a.Bukv.Name], []float32(nil)
	for head := range a.H {
		values = append(values, bias[head/per*2*D+D:][:D]...)
	}
	h.bias, err = w.put(values)
	return h, err
}

// pack writes the weights of a group one after the other. Those for the first columns have zeros for the others.
func (w *weights) pack(g []weight) (*packed, error) {
	p := &packed{n: 1, column: map[product]int{}}
	if shape := g[0].w.Shape; len(shape) == 3 {
		p.n = shape[0]
	}
	biased := false
	for _, x := range g {
		p.in = max(p.in, x.w.Shape[len(x.w.Shape)-2])
		p.column[x.product()] = p.out
		p.out += x.w.Shape[len(x.w.Shape)-1]
		biased = biased || x.bias != nil
	}
	values, bias := make([]float32, p.n*p.in*p.out), make([]float32, p.n*p.out)
	for _, x := range g {
		at, in, out := p.column[x.product()], x.w.Shape[len(x.w.Shape)-2], x.w.Shape[len(x.w.Shape)-1]
		for i := range p.n {
			transpose(values[(i*p.out+at)*p.in:], w.of[x.w.Name][i*in*out:], in, out, p.in)
		}
		if x.bias != nil {
			copy(bias[at:], w.of[x.bias.Name])
		}
	}
	var err error
	if p.w, err = w.put(values); err == nil && biased {
		p.bias, err = w.put(bias)
	}
	return p, err
}

// transpose writes x [rows, columns] as y [columns, rows] at a stride, in tiles that stay in the caches.
func transpose(y, x []float32, rows, columns, stride int) {
	const side = 32
	ref.Spans((columns+side-1)/side, func(lo, hi int) {
		for c0 := lo * side; c0 < min(hi*side, columns); c0 += side {
			for r0 := 0; r0 < rows; r0 += side {
				for c := c0; c < min(c0+side, columns); c++ {
					for r := r0; r < min(r0+side, rows); r++ {
						y[c*stride+r] = x[r*columns+c]
					}
				}
			}
		}
	})
}

// put uploads values as the weights' type.
func (w *weights) put(x []float32) (device.Buffer, error) {
	b, err := w.queue.alloc(w.t, len(x))
	if err != nil {
		return b, err
	}
	w.queue.uploadFloats(b, x)
	return b, w.queue.sync()
}
