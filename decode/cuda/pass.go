//go:build gpu

package cuda

import (
	"errors"
	"fmt"
	"os"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/device"
	"headroom/internal/graph"
)

// A Device runs the passes of one model on a GPU. A batch in which every request has as many new tokens is a step: its
// kernels are recorded once for a size of batch and launched as a whole; only numbers in device memory change. All
// other passes are launched kernel by kernel.
type Device struct {
	model     *decode.Model
	limits    decode.Limits
	dev       *device.Device
	queue     queue
	weights   *weights
	t         device.Type
	cacheType attention.CacheType

	cache          [][]slot // [layer][slot]
	tables         map[tableKey]device.Buffer
	pages          device.Buffer // [Rows, maxPages]
	maxPages       int
	held           [][]int32     // the rows of pages
	tail           device.Buffer // as pages, of layers with windows, where there is a pool for them
	heldTail       [][]int32
	lse, work      device.Buffer
	fixed          []fixed
	logits         device.Buffer // of the last pass: [scores, V]
	scored         []float32     // the same on the host, once Scores was called
	scoredTokens   int
	drawn          device.Buffer // the tokens that the last pass drew
	arena          arena
	meta           meta
	results        [4]result
	first, pending int // of results
	graphs         map[bucket]recorded
	seen           map[bucket]bool

	rank, ranks int     // of the shards of a model
	reaches     bool    // the memory of the devices of the others
	takes       []takes // which kernels take each layer
	samples     bool    // the kernel of sampling takes the vocabulary

	mode      mode
	n, scores int // rows of the values now, and from Select on
	step      bool
	sampled   bool                 // some tokens are drawn by their chances
	gathers   bool                 // the logits of all shards
	parts     [noneAbove][]segment // of the batch, by which kernels take a layer
	entries   []entry
}

// A slot is one tensor of a layer's cache: [pages, PageTokens, heads, dim].
type slot struct {
	heads, dim  int
	buf, scales device.Buffer // scales of elements in bytes, [pages, heads, decode.PageTokens]
}

// fp8 says that elements are bytes, each head's of a token with a scale of its own.
func (s slot) fp8() bool { return s.buf.Type == device.U8 }

type tableKey struct {
	r      int
	rotary graph.Rotary
}

// recorded is a step, and where it leaves its logits.
type recorded struct {
	recording
	logits device.Buffer
}

// A mode says what is done with launches.
type mode int

const (
	running  mode = iota
	counting      // nothing: the values' memory is counted
	tuning        // only products, whose algorithms are timed
)

// A result holds the tokens that a pass drew, while they are copied to the host.
type result struct {
	tokens []int32 // pinned
	done   mark
	scores int
	draws  []decode.Draw
}

// Pass starts a pass.
func (d *Device) Pass(b decode.Batch) error {
	if len(b.Rows) > d.limits.Rows || len(b.Tokens) > d.limits.Tokens || len(b.Score) > d.limits.Scores {
		return fmt.Errorf("decode: a pass of %d rows, %d tokens and %d scores on a device for %d, %d and %d",
			len(b.Rows), len(b.Tokens), len(b.Score), d.limits.Rows, d.limits.Tokens, d.limits.Scores)
	}
	if d.pending == len(d.results) {
		return errors.New("decode: too many passes are on their way: Tokens must be called after at most 4")
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

// whole runs the model's pass.
func (d *Device) whole() {
	n, scores := d.n, d.scores
	d.arena.used, d.entries = 0, d.entries[:0]
	d.logits = of(d.model.Decode(d)).buf
	d.n, d.scores = n, scores
}

// send starts the copy of the drawn tokens to the host.
func (d *Device) send(b decode.Batch) error {
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
func (d *Device) Tokens() ([]int32, error) {
	r := &d.results[d.first]
	d.first, d.pending = (d.first+1)%len(d.results), d.pending-1
	if err := r.done.wait(); err != nil {
		return nil, errors.Join(err, d.queue.sync())
	}
	for i, draw := range r.draws {
		if draw.Greedy() {
			continue
		}
		l, err := d.Scores(i)
		if err != nil {
			return nil, err
		}
		r.tokens[i] = draw.Token(l)
	}
	return r.tokens[:r.scores], nil
}

// Ahead is true where the device draws the tokens itself.
func (d *Device) Ahead(s decode.Sampling) bool { return d.samples || s.Greedy() }

// Scores copies the logits of all scored tokens to the host when it is first called after a pass.
func (d *Device) Scores(i int) ([]float32, error) {
	V := d.model.Vocab()
	if n := d.scoredTokens * V; len(d.scored) != n {
		d.scored = make([]float32, n)
		d.queue.downloadFloats(d.scored, d.logits)
		if err := d.queue.sync(); err != nil {
			return nil, err
		}
	}
	return d.scored[i*V : (i+1)*V], nil
}
