package model

import (
	"fmt"

	"headroom/attention"
)

// Shard is what one device of size computes under tensor parallelism, as a model of its own: its share of the query
// heads and of the MLP, with the key/value or latent heads that they read. Where there are fewer of those than devices,
// several devices hold the same. Norms, the rope key and the query latent are on all, but for GLA_q, whose parts of the
// query latent go with the latents. What attention and MLP of the shards add to the residual sums up to what the whole
// model's add (Shoeybi et al., arXiv 1909.08053; section 3.3 of arXiv 2505.21487). The vocabulary is divided, of the
// embedding and of the head, where its size can be: a shard has an equal run of its tokens.
func (t *Transformer) Shard(size int) (*Transformer, error) {
	c, pattern := t.Config, make([]attention.Config, len(t.pattern))
	for i, a := range t.pattern {
		var err error
		if pattern[i], err = a.Shard(size); err != nil {
			return nil, err
		}
	}
	if c.Norm != PreNorm && size > 1 {
		return nil, fmt.Errorf("model: norms behind attention and MLP (model.norm: %s) are of the sum over all devices, and "+
			"decoding on %d devices norms before it sums", c.Norm, size)
	}
	if c.MLP%size != 0 {
		return nil, fmt.Errorf("model: an MLP of %d cannot be divided among %d devices", c.MLP, size)
	}
	c.MLP /= size
	if c.Vocab%size == 0 {
		c.Vocab /= size
	}
	return Patterned(c, pattern)
}

// Cut is what device rank of size has of a parameter: of each axis on which its shard is shorter, the part of its
// heads. It may lie in x.
func Cut(x []float32, whole, part []int, rank, size int) []float32 {
	outer := 1 // of what is cut so far
	for axis := range whole {
		units := whole[axis] / part[axis]
		inner := 1
		for _, n := range whole[axis+1:] {
			inner *= n
		}
		if units > 1 {
			at := rank * units / size * part[axis] * inner
			rank, size = rank%(size/units), size/units
			if n := part[axis] * inner; outer == 1 {
				x = x[at : at+n : at+n] // as it lies there
			} else {
				y := make([]float32, 0, outer*n)
				for o := range outer {
					row := x[o*whole[axis]*inner:]
					y = append(y, row[at:at+n]...)
				}
				x = y
			}
		}
		outer *= part[axis]
	}
	return x
}
