package host

import (
	"math/rand/v2"
	"slices"

	"headroom/attention"
	"headroom/decode"
)

// A Device runs passes by the reference kernels, each operation when the model asks for it.
type Device struct {
	model *decode.Model
	cache [][]slot // [layer][slot]
	ends  []bool   // layers with windows whose pages are those of a tail

	batch    decode.Batch
	logits   []float32 // [scored, V] of the last pass
	drawn    [][]int32 // by passes whose tokens Tokens has not returned yet
	last     []int32   // the tokens that the last pass drew
	x        memory    // of Embed
	arena    memory    // of all other values
	used     int
	rotaries map[rotation]*rotary
	scratch  scratch
	sum      func(x []float32) // over the shards of a model, or nil
}

// NewDevice is a device with a cache of pages in float32.
func NewDevice(m *decode.Model, pages int) *Device { return newDevice(m, pages, attention.FP32) }

func newDevice(m *decode.Model, pages int, t attention.CacheType) *Device {
	return newTailed(m, pages, 0, t)
}

// newTailed has a pool of tail pages for layers with windows; where it is 0 theirs are in the other.
func newTailed(m *decode.Model, pages, tail int, t attention.CacheType) *Device {
	c := &Device{model: m, rotaries: map[rotation]*rotary{}}
	for layer := range m.Config.Layers {
		var slots []slot
		n, ends := pages, tail > 0 && m.LayerAttention(layer).Window > 0
		if ends {
			n = tail
		}
		for _, s := range m.CacheLayout(layer) {
			slots = append(slots, newSlot(s, n, t))
		}
		c.cache, c.ends = append(c.cache, slots), append(c.ends, ends)
	}
	return c
}

// Close has nothing to do.
func (c *Device) Close() error { return nil }

// CacheBytes is what the pool really takes.
func (c *Device) CacheBytes() (n int64) {
	for _, slots := range c.cache {
		for _, s := range slots {
			n += s.bytes()
		}
	}
	return n
}

// Pass runs a pass over a batch.
func (c *Device) Pass(b decode.Batch) error {
	b.Tokens = slices.Clone(b.Tokens)
	for i, t := range b.Tokens {
		if t < 0 {
			b.Tokens[i] = c.last[-1-t]
		}
	}
	c.batch, c.used = b, 0
	c.logits = floats(c.model.Decode(c))
	c.last = make([]int32, len(b.Score))
	for i, d := range b.Draws {
		l, err := c.Scores(i)
		if err != nil {
			return err
		}
		c.last[i] = d.Token(l)
	}
	c.drawn = append(c.drawn, c.last)
	return nil
}

// Tokens are those of the oldest pass.
func (c *Device) Tokens() ([]int32, error) {
	t := c.drawn[0]
	c.drawn = c.drawn[1:]
	return t, nil
}

// Ahead is false: passes run when they are started.
func (c *Device) Ahead(decode.Sampling) bool { return false }

// Scores are the logits of a scored token.
func (c *Device) Scores(i int) ([]float32, error) {
	V := c.model.Vocab()
	return c.logits[i*V : (i+1)*V], nil
}

// Noise gives the whole pool random content.
func (c *Device) Noise(seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 1))
	var block [4096]float32
	for i := range block {
		block[i] = float32(r.NormFloat64())
	}
	for _, slots := range c.cache {
		for _, s := range slots {
			s.fill(block[:])
		}
	}
	return nil
}
