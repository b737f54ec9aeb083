//go:build gpu

package decode

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"

	"headroom/internal/device"
	"headroom/kernels"
)

// A CUDA runs the passes of one model on a GPU. A batch in which every request has as many new tokens is a step: its kernels
// are recorded once for a size of batch and launched as a whole; only numbers in device memory change. All other passes are
// launched kernel by kernel.
//
// cuda.go has the backend and the weights as they lie on the GPU, cuda_queue.go all that the GPU is asked for, cuda_memory.go
// the plan of the memory, this file a pass from its batch to its tokens, cuda_value.go the model's operations, which wait
// until somebody needs their result, and cuda_attend.go attention in its three manners.
type CUDA struct {
	model   *Model
	limits  Limits
	dev     *device.Device
	queue   queue
	weights *cudaWeights
	t       device.Type

	cache          [][]cudaSlot // [layer][slot]
	tables         map[tableKey]device.Buffer
	pages          device.Buffer // [Rows, maxPages]
	maxPages       int
	held           [][]int32 // the rows of pages
	lse, work      device.Buffer
	fixed          []fixed
	logits         device.Buffer // of the last pass: [scores, V]
	scored         []float32     // and on the host, when somebody asked
	scoredTokens   int
	drawn          device.Buffer // what the last pass drew
	arena          arena
	meta           meta
	results        [4]result
	first, pending int // of results
	graphs         map[bucket]recorded
	seen           map[bucket]bool

	rank, ranks     int  // of the shards of a model
	decodes, trains bool // the kernels of decoding, and of training, take the model's dims
	samples         bool // and that of sampling its vocabulary

	mode      mode
	n, scores int // rows of values now, and after Select
	step      bool
	sampled   bool // some tokens are drawn by their chances
	parts     []segment
	entries   []entry
}

// A cudaSlot is one tensor of a layer's cache: [pages, PageTokens, heads, dim].
type cudaSlot struct {
	heads, dim int
	buf        device.Buffer
}

type tableKey struct {
	r     int
	theta float64
}

// A bucket is a step that is recorded: of so many requests with t new tokens each, drawn greedily or not.
type bucket struct {
	rows, t int
	sampled bool
}

// recorded is a step, and where it leaves its logits.
type recorded struct {
	recording
	logits device.Buffer
}

// A mode is what becomes of launches.
type mode int

const (
	running  mode = iota
	counting      // nothing: the values' memory is counted
	tuning        // only products, whose algorithms are timed
)

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

// meta is what a pass says of its tokens: one copy to the device.
type meta struct {
	all                                              device.Buffer
	tokens, positions, rows, lengths, score, choices device.Buffer // of this pass, in all
	seen                                             device.Buffer // a bit for each token and score: what the repetition penalty counts
	host                                             [4][]int32
}

// A result is what a pass drew, on its way to the host.
type result struct {
	tokens []int32 // pinned
	done   mark
	scores int
	draws  []Draw
}

// Pass starts a pass.
func (d *CUDA) Pass(b Batch) error {
	if len(b.Rows) > d.limits.Rows || len(b.Tokens) > d.limits.Tokens || len(b.Score) > d.limits.Scores {
		return fmt.Errorf("decode: a pass of %d rows, %d tokens and %d scores on a device for %d, %d and %d",
			len(b.Rows), len(b.Tokens), len(b.Score), d.limits.Rows, d.limits.Tokens, d.limits.Scores)
	}
	if d.pending == len(d.results) {
		return errors.New("decode: too many passes whose tokens nobody asked for")
	}
	key, step := d.bucket(b)
	if err := d.describe(b, key, step); err != nil {
		return err
	}
	g, known := d.graphs[key]
	switch {
	case known && step:
		g.launch()
		d.logits = g.logits
	case step && d.seen[key] && os.Getenv("HEADROOM_CUDA_SYNC") == "":
		g, err := d.queue.capture(d.whole)
		if err != nil {
			return err
		}
		d.graphs[key] = recorded{g, d.logits}
		g.launch()
	default:
		// the first step of its size loads kernels and makes plans
		if step && d.t == device.BF16 && !d.seen[key] {
			d.mode = tuning
			d.whole()
			d.mode = running
		}
		if step {
			d.seen[key] = true
		}
		d.whole()
	}
	return d.send(b)
}

// whole is the pass.
func (d *CUDA) whole() {
	n, scores := d.n, d.scores
	d.arena.used, d.entries = 0, d.entries[:0]
	d.logits = of(d.model.Decode(d)).buf
	d.n, d.scores = n, scores
}

// send starts what was drawn on its way to the host.
func (d *CUDA) send(b Batch) error {
	r := &d.results[(d.first+d.pending)%len(d.results)]
	d.pending++
	r.scores, r.draws = len(b.Score), nil
	if !d.sampled {
		r.draws = b.Draws
	}
	d.scored, d.scoredTokens = nil, len(b.Score)
	d.queue.download(r.tokens[:r.scores], d.drawn)
	r.done.record()
	return d.queue.err()
}

// Tokens waits for the oldest pass.
func (d *CUDA) Tokens() ([]int32, error) {
	r := &d.results[d.first]
	d.first, d.pending = (d.first+1)%len(d.results), d.pending-1
	if err := r.done.wait(); err != nil {
		return nil, errors.Join(err, d.queue.sync())
	}
	for i, draw := range r.draws {
		if draw.greedy() {
			continue
		}
		l, err := d.Scores(i)
		if err != nil {
			return nil, err
		}
		r.tokens[i] = draw.next(draw.U, l, draw.History)
	}
	return r.tokens[:r.scores], nil
}

// Ahead says that the device draws on its own.
func (d *CUDA) Ahead(s Sampling) bool { return d.samples || s.greedy() }

// Scores are in memory of this machine after the first call that follows a pass: one copy of all.
func (d *CUDA) Scores(i int) ([]float32, error) {
	V := d.model.Config.Vocab
	if n := d.scoredTokens * V; len(d.scored) != n {
		d.scored = make([]float32, n)
		d.queue.downloadFloats(d.scored, d.logits)
		if err := d.queue.sync(); err != nil {
			return nil, err
		}
	}
	return d.scored[i*V : (i+1)*V], nil
}

// bucket is the size of step that a batch falls into, if it is one.
func (d *CUDA) bucket(b Batch) (bucket, bool) {
	k := bucket{rows: min(1<<bits.Len(uint(len(b.Rows)-1)), d.limits.Rows), t: b.Rows[0].T}
	k.sampled = d.samples && slices.ContainsFunc(b.Draws, func(x Draw) bool { return !x.greedy() })
	for _, r := range b.Rows {
		if r.T != k.t {
			return k, false
		}
	}
	return k, k.t <= decodeTokens && len(b.Score) == len(b.Tokens) && k.rows*k.t <= padded(d.limits.Tokens)
}

// padded is the number of tokens that a pass runs with: few different ones, for each has its plans of products.
func padded(n int) int {
	step := max(64, 1<<max(0, bits.Len(uint(n-1))-3))
	return (n + step - 1) / step * step
}

// describe writes down the batch for the device.
func (d *CUDA) describe(b Batch, key bucket, step bool) error {
	rows := b.Rows
	d.sampled = key.sampled
	d.n, d.scores = padded(len(b.Tokens)), 1<<bits.Len(uint(max(1, len(b.Score))-1))
	if step {
		d.n, d.scores = key.rows*key.t, key.rows*key.t
		rows = append([]Row(nil), rows...)
		for i := len(rows); i < key.rows; i++ {
			rows = append(rows, Row{From: i * key.t, T: key.t})
		}
	}
	d.parts, d.step = d.segments(rows), step
	d.layMeta(len(rows))
	host := d.meta.host[(d.first+d.pending)%len(d.meta.host)]
	at := 0
	section := func(n int) []int32 {
		s := host[at : at+n]
		at += fours(n)
		clear(s)
		return s
	}
	copy(section(d.n), b.Tokens)
	copy(section(d.n), b.Positions)
	of := section(d.n)
	for i := range of {
		of[i] = -1
	}
	lengths := section(len(rows))
	for i, r := range b.Rows {
		lengths[i] = int32(r.Start + r.T)
		for t := range r.T {
			of[r.From+t] = int32(i)
		}
		if len(r.Pages) > d.maxPages {
			return fmt.Errorf("decode: a request of %d pages on a device for %d", len(r.Pages), d.maxPages)
		}
		d.hold(i, r.Pages)
	}
	copy(section(d.scores), b.Score)
	if d.sampled {
		d.choose(b.Draws, section(kernels.StepSamplingWords*d.scores))
	}
	d.queue.upload(d.meta.all, host[:at])
	return d.queue.err()
}

// choose writes down how tokens are drawn, and uploads what was there before for those with a penalty.
func (d *CUDA) choose(draws []Draw, words []int32) {
	for i, x := range draws {
		kernels.StepSampling{
			Temperature: float32(x.Temperature), TopP: float32(x.TopP), MinP: float32(x.MinP), Repetition: float32(x.Repetition), TopK: int32(x.TopK), U: x.U,
		}.Pack(words[i*kernels.StepSamplingWords:])
		if x.penalizes() {
			seen := kernels.PackSeen(d.model.Config.Vocab, x.History)
			d.queue.upload(d.meta.seen.Slice(i*len(seen), (i+1)*len(seen)), seen)
		}
	}
}

// fours rounds up to whole 16 bytes, where the kernels of decoding want their arguments.
func fours(n int) int { return (n + 3) / 4 * 4 }

// layMeta cuts the device's copy as describe cuts the host's.
func (d *CUDA) layMeta(rows int) {
	at := 0
	cut := func(n int) device.Buffer {
		b := d.meta.all.Slice(at, at+n)
		at += fours(n)
		return b
	}
	m := &d.meta
	m.tokens, m.positions, m.rows, m.lengths, m.score = cut(d.n), cut(d.n), cut(d.n), cut(rows), cut(d.scores)
	if d.sampled {
		c := cut(kernels.StepSamplingWords * d.scores)
		m.choices = device.Buffer{Ptr: c.Ptr, N: c.Bytes(), Type: device.U8}
	}
}

// hold brings a row of the page table up to date. Its pages stay referenced here: a slice at the same address is the same.
func (d *CUDA) hold(row int, pages []int32) {
	if old := d.held[row]; len(old) == len(pages) && &old[0] == &pages[0] {
		return
	}
	d.held[row] = pages
	d.queue.upload(d.pages.Slice(row*d.maxPages, (row+1)*d.maxPages), pages)
}
