//go:build gpu

package cuda

import (
	"fmt"
	"math/bits"
	"slices"

	"headroom/decode"
	"headroom/internal/device"
	"headroom/kernels"
)

// meta is what describes the tokens of a pass. It reaches the device in one copy.
type meta struct {
	all                                              device.Buffer
	tokens, positions, rows, lengths, score, choices device.Buffer // of this pass, in all
	// what the penalty counts: a bit a token, for each score
	seen device.Buffer
	host [4][]int32
}

// A bucket is a step that is recorded: of so many requests with t new tokens each, drawn greedily or not.
type bucket struct {
	rows, t int
	sampled bool
}

// bucket is the size of step that a batch falls into, if it is one.
func (d *Device) bucket(b decode.Batch) (bucket, bool) {
	k := bucket{rows: min(1<<bits.Len(uint(len(b.Rows)-1)), d.limits.Rows), t: b.Rows[0].T}
	k.sampled = d.samples && slices.ContainsFunc(b.Draws, func(x decode.Draw) bool { return !x.Greedy() })
	for _, r := range b.Rows {
		if r.T != k.t {
			return k, false
		}
	}
	return k, k.t <= decodeTokens && len(b.Score) == len(b.Tokens) && k.rows*k.t <= padded(d.limits.Tokens)
}

// padded is the number of tokens that a pass of n runs with. There are few such numbers, since products are planned for
// each.
func padded(n int) int {
	step := max(64, 1<<max(0, bits.Len(uint(n-1))-3))
	return (n + step - 1) / step * step
}

// describe writes down the batch for the device.
func (d *Device) describe(b decode.Batch, key bucket, step bool) error {
	rows := b.Rows
	d.sampled = key.sampled
	d.n, d.scores = padded(len(b.Tokens)), 1<<bits.Len(uint(max(1, len(b.Score))-1))
	if step {
		d.n, d.scores = key.rows*key.t, key.rows*key.t
		rows = append([]decode.Row(nil), rows...)
		for i := len(rows); i < key.rows; i++ {
			rows = append(rows, decode.Row{From: i * key.t, T: key.t})
		}
	}
	d.gathers = d.divided() && (d.sampled || !d.samples || !d.reaches || d.scores > kernels.MostAllLargest)
	d.divide(func(by takes) []segment { return segments(rows, by) })
	d.step = step
	d.cutMeta(len(rows))
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
		if most := max(len(r.Pages), len(r.Tail)); most > d.maxPages {
			return fmt.Errorf("decode: a request of %d pages on a device for %d", most, d.maxPages)
		}
		d.setPages(d.pages, d.held, i, r.Pages)
		if d.limits.Tail > 0 {
			d.setPages(d.tail, d.heldTail, i, r.Tail)
		}
	}
	copy(section(d.scores), b.Score)
	if d.sampled {
		d.choose(b.Draws, section(kernels.StepSamplingWords*d.scores))
	}
	d.queue.upload(d.meta.all, host[:at])
	return d.queue.err()
}

// choose writes down how tokens are drawn, and uploads which tokens were there before for those with a penalty.
func (d *Device) choose(draws []decode.Draw, words []int32) {
	for i, x := range draws {
		kernels.StepSampling{
			Temperature: float32(x.Temperature), TopP: float32(x.TopP), MinP: float32(x.MinP), Repetition: float32(x.Repetition),
			TopK: int32(x.TopK), U: x.U,
		}.Pack(words[i*kernels.StepSamplingWords:])
		if x.Penalizes() {
			seen := kernels.PackSeen(d.model.Vocab(), x.History)
			d.queue.upload(d.meta.seen.Slice(i*len(seen), (i+1)*len(seen)), seen)
		}
	}
}

// fours rounds up to whole 16 bytes, where the kernels of decoding want their arguments.
func fours(n int) int { return (n + 3) / 4 * 4 }

// cutMeta cuts the device's copy as describe cuts the host's.
func (d *Device) cutMeta(rows int) {
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

// setPages brings a row of a page table up to date. The slice of pages stays referenced here, so that one at the same
// address is known to be the same, but for pages behind a window, which nobody reads.
func (d *Device) setPages(table device.Buffer, held [][]int32, row int, pages []int32) {
	if old := held[row]; len(old) == len(pages) && &old[0] == &pages[0] {
		return
	}
	held[row] = pages
	d.queue.upload(table.Slice(row*d.maxPages, (row+1)*d.maxPages), pages)
}
