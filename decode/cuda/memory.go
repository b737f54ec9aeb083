//go:build gpu

package cuda

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/device"
	"headroom/kernels"
)

// A fixed names a buffer that a device allocates once.
type fixed struct {
	to *device.Buffer
	t  device.Type
	n  int
}

// plan lays out a device for a model and counts the memory of its passes. It allocates none but that of the weights.
func (b *backend) plan(m *decode.Model, l decode.Limits) (*Device, error) {
	w, err := b.weightsOf(m)
	if err != nil {
		return nil, err
	}
	g := groupsOf(m.Transformer)
	d := &Device{
		model: m, limits: l, dev: b.dev, weights: w, t: b.t, cacheType: b.Cache(), tables: map[tableKey]device.Buffer{},
		maxPages: fours(decode.PagesFor(l.Context)),
		rank:     b.rank, ranks: b.ranks, reaches: b.reaches,
		held: make([][]int32, l.Rows), heldTail: make([][]int32, l.Rows),
		graphs: map[bucket]recorded{},
		seen:   map[bucket]bool{},
	}
	d.samples = b.dev.Compute == 90 && m.Vocab() <= kernels.StepSampleMost(b.dev)
	work := d.dims(g)
	for _, r := range g.reads {
		if r.Rank > 0 && d.cacheType == attention.FP8 {
			return nil, errors.New("decode: a cache of factors, as tpa has, has no kernels in fp8 on cuda: " +
				"leave cache-type out, or decode on the cpu")
		}
	}
	most := padded(l.Tokens + l.Rows)
	d.fixed = []fixed{
		{&d.pages, device.I32, l.Rows * d.maxPages},
		{&d.meta.all, device.I32, 3*most + fours(l.Rows) + (1+kernels.StepSamplingWords)*fours(2*l.Scores) + 16},
		{&d.drawn, device.I32, 2 * l.Scores}, {&d.lse, device.F32, most * g.heads()}, {&d.work, device.U8, work},
		{&d.meta.seen, device.I32, 2 * l.Scores * kernels.SeenWords(m.Vocab())},
	}
	if l.Tail > 0 {
		d.fixed = append(d.fixed, fixed{&d.tail, device.I32, l.Rows * d.maxPages})
	}
	for layer := range m.Config.Layers {
		var slots []slot
		pages := l.Pages
		if d.ends(layer) {
			pages = l.Tail
		}
		for _, s := range m.CacheLayout(layer) {
			vectors := pages * decode.PageTokens * s.Heads
			to := slot{heads: s.Heads, dim: s.Dim, buf: device.Buffer{Ptr: 1 << 40, N: vectors * s.Dim, Type: b.t}}
			if b.cache.Of(s) == attention.FP8 {
				to.buf.Type = device.U8
				to.scales = device.Buffer{Ptr: 1 << 40, N: vectors, Type: device.U8}
			}
			slots = append(slots, to)
		}
		d.cache = append(d.cache, slots)
	}
	for k := range g.rotations {
		d.tables[k] = device.Buffer{}
	}
	for _, f := range d.fixed {
		*f.to = device.Buffer{Ptr: 1 << 40, N: f.n, Type: f.t}
	}
	d.count()
	return d, nil
}

// dims finds out which kernels take the dims of each layer, and the memory that those of decoding work in, which all
// layers share.
func (d *Device) dims(g *groups) (work int) {
	d.takes = make([]takes, d.model.Config.Layers)
	for i := range d.takes {
		d.takes[i] = byTraining | byDecoding
	}
	for _, r := range g.reads {
		if !d.trains(r) {
			d.takes[r.layer] &^= byTraining
		}
		n, ok := d.decodes(r)
		if work = max(work, n); !ok {
			d.takes[r.layer] &^= byDecoding
		}
	}
	return max(work, 16)
}

// trains says that the kernel of training takes a read. It attends to expanded latents, and to keys that are rotated,
// without a window.
func (d *Device) trains(r read) bool {
	if r.Turn > 0 || r.Rank > 0 || r.Window > 0 {
		return false
	}
	P, R, Dv := r.P, r.R, r.Dv
	if l := r.latent; l != nil {
		P, R, Dv = l.D, l.R, l.D
	}
	fits := P+R <= 256 && Dv <= 256
	if d.t == device.BF16 {
		fits = fits && (P+R)%16 == 0 && Dv%16 == 0 && P%8 == 0
	}
	return fits
}

// decodes says whether the kernels of decoding take a read, and how many bytes they work in. None has windows.
func (d *Device) decodes(r read) (work int, ok bool) {
	if d.t != device.BF16 || r.Window > 0 {
		return 0, false
	}
	shape := kernels.DecodeShape{
		FP8: d.cacheType == attention.FP8, Cache: string(r.Form()), B: d.limits.Rows, H: r.H,
		G: d.model.CacheLayout(r.layer)[r.K].Heads, P: r.P, R: r.R,
		Dv:   r.Dv,
		Page: decode.PageTokens, MaxPages: d.maxPages,
	}
	for shape.T = 1; shape.T <= decodeTokens; shape.T++ {
		n, err := shape.WorkBytes(d.dev)
		if err != nil {
			return work, false
		}
		work = max(work, n)
	}
	return work, true
}

// count finds the most memory that the values of a pass take, by running the largest passes without any: one of whole
// prompts, one of the last part of the longest prompt, each with a request of one token for every row beside them, and
// a step, whose kernels are others.
func (d *Device) count() {
	l := d.limits
	most := min(l.Tokens, l.Rows*l.Context)
	last := max(1, min(l.Tokens, l.Context-1)) // tokens behind others of their request
	b := (most + l.Context - 1) / l.Context
	t := (most + b - 1) / b
	others := func(by takes) segment { return segment{how: by.few(), b: l.Rows, n: l.Rows, t: 1} }
	d.mode = counting
	for i, parts := range []func(by takes) []segment{
		func(by takes) []segment { return []segment{{how: by.long(), b: b, n: b * t, t: t}, others(by)} },
		func(by takes) []segment {
			return []segment{{how: by.long(), b: 1, n: last, t: last, start: (l.Context - last) | (startTokens - 1)}, others(by)}
		},
		func(by takes) []segment {
			return []segment{{how: by.few(), b: kernels.StepMaxRows, n: kernels.StepMaxRows, t: 1}}
		},
	} {
		d.divide(parts)
		d.n, d.scores, d.step = padded(l.Tokens+l.Rows), 2*l.Scores, i == 2
		if d.step {
			d.n, d.scores = kernels.StepMaxRows, kernels.StepMaxRows
		}
		d.cutMeta(l.Rows)
		d.whole()
	}
	d.mode = running
}

// passBytes is the memory beside weights and cache.
func (d *Device) passBytes() int {
	n := d.arena.most
	for _, f := range d.fixed {
		n += f.n * f.t.Size()
	}
	for k := range d.tables {
		n += d.limits.Context * k.r * 4
	}
	return n
}

// allocate takes the memory. The cache starts as NaN, so that a read of what was never written is seen.
func (d *Device) allocate(open func(sums bool) (queue, error)) (err error) {
	if d.queue, err = open(d.ranks > 1); err != nil {
		return err
	}
	alloc := func(to *device.Buffer, t device.Type, n int) {
		*to = device.Buffer{}
		if err == nil {
			*to, err = d.queue.alloc(t, n)
		}
	}
	pinned := func(to *[]int32, n int) {
		if err == nil {
			*to, err = d.queue.pinned(n)
		}
	}
	for _, f := range d.fixed {
		alloc(f.to, f.t, f.n)
	}
	alloc(&d.arena.all, device.U8, d.arena.most)
	for _, slots := range d.cache {
		for i := range slots {
			for _, b := range []*device.Buffer{&slots[i].buf, &slots[i].scales} {
				if b.N > 0 {
					alloc(b, b.Type, b.N)
				}
			}
		}
	}
	for k := range d.tables {
		host := kernels.RopeTable(d.limits.Context, k.r, k.rotary)
		var table device.Buffer
		alloc(&table, device.F32, len(host))
		d.tables[k] = table
		if err == nil {
			d.queue.uploadFloats(table, host)
		}
	}
	for i := range d.results {
		pinned(&d.results[i].tokens, 2*d.limits.Scores)
		pinned(&d.meta.host[i], d.meta.all.N)
		if err == nil {
			d.results[i].done, err = d.queue.mark()
		}
	}
	if err != nil {
		return err
	}
	d.queue.launch(fill{d.work, 0})
	d.queue.launch(fill{d.pages, 0})
	if d.limits.Tail > 0 {
		d.queue.launch(fill{d.tail, 0})
	}
	for _, slots := range d.cache {
		for _, s := range slots {
			d.queue.launch(fill{s.buf, 0xff})
			if s.fp8() {
				d.queue.launch(fill{s.scales, 0xff})
			}
		}
	}
	return d.queue.sync()
}

// Close waits for what runs, and frees all memory but the weights, which are the backend's.
func (d *Device) Close() error {
	if d.queue == nil {
		return nil
	}
	return d.queue.close()
}

// CacheBytes is what the pool takes.
func (d *Device) CacheBytes() (n int64) {
	for _, slots := range d.cache {
		for _, s := range slots {
			n += int64(s.buf.Bytes() + s.scales.Bytes())
		}
	}
	return n
}

// Noise gives the whole pool random content.
func (d *Device) Noise(seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 1))
	for _, slots := range d.cache {
		for _, s := range slots {
			if s.fp8() {
				d.run(&kernels.NoiseFP8{X: s.buf, Scales: s.scales, Seed: r.Uint64()})
				continue
			}
			d.run(&kernels.Noise{X: s.buf, Seed: r.Uint64(), Scale: 1})
		}
	}
	return d.queue.sync()
}

// An arena hands out memory for the values of a pass.
type arena struct {
	all              device.Buffer
	used, kept, most int
}

func (a *arena) take(t device.Type, n int) device.Buffer {
	at := a.used
	a.used += (n*t.Size() + 255) / 256 * 256
	a.most = max(a.most, a.used)
	base := a.all.Ptr
	if base == 0 {
		base = 1 << 40 // counting
	} else if a.used > a.all.N {
		panic(fmt.Sprintf("decode: %d bytes of values, %d were counted", a.used, a.all.N))
	}
	return device.Buffer{Ptr: base + device.Ptr(at), N: n, Type: t}
}

func (a *arena) keep()    { a.kept = a.used }
func (a *arena) release() { a.used = a.kept }
