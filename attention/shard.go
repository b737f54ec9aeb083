package attention

import "fmt"

// Shard is what one of size tensor-parallel devices has: its share of the query heads, and the key/value or latent
// heads that they read. Where there are fewer of those than devices, several devices hold the same. The query latent is
// on all, but where it has a part for each latent head: there the parts go with the latents.
func (c Config) Shard(size int) (Config, error) {
	d, err := c.Kind.Describe()
	if err != nil {
		return c, err
	}
	c = c.Resolve()
	if d.Apart {
		return c.shardBranches(size)
	}
	switch {
	case size < 1 || c.Heads%size != 0:
		return c, fmt.Errorf("attention: %d query heads cannot be divided among %d devices", c.Heads, size)
	case c.Groups%size != 0 && size%c.Groups != 0:
		return c, fmt.Errorf("attention: %d %s and %d devices do not divide one another", c.Groups, d.heads(), size)
	case d.Split && c.QueryNorm == WholeNorm && size > 1:
		return c, fmt.Errorf("attention: %s cannot be divided: its parts of the query latent are normed as one "+
			"(attention.query_norm: parts norms them apart)", c.Kind)
	case c.QKNorm == AllNorm && size > 1:
		return c, fmt.Errorf("attention: %s with qk_norm all cannot be divided: the norm needs the sum of the squares of "+
			"all devices' heads (attention.qk_norm: head norms each head apart)", c.Kind)
	}
	if d.Split {
		c.QueryLatentDim = c.QueryLatentDim / c.Groups * max(1, c.Groups/size)
	}
	c.Heads, c.Groups = c.Heads/size, max(1, c.Groups/size)
	return c, nil
}

// shardBranches deals out the latents of a kind of which each head reads b of n. A device has the heads that read one
// of its latents, all of them where b is n, and the output of its heads over its latents alone: the sum over the
// devices adds up the branches.
func (c Config) shardBranches(size int) (Config, error) {
	groups := c.Latents / c.Groups
	switch {
	case size < 1 || c.Latents%size != 0 || groups%size != 0 && size%groups != 0:
		return c, fmt.Errorf("attention: %d latents cannot be divided among %d devices, each of which needs one of its own",
			c.Latents, size)
	case c.Heads%min(size, groups) != 0:
		return c, fmt.Errorf("attention: %d query heads cannot be divided among %d devices", c.Heads, size)
	}
	c.Heads, c.Latents, c.shard = c.Heads/min(size, groups), c.Latents/size, true
	return c, nil
}
