package eval

import (
	"context"
	"math/rand/v2"
	"time"
)

// PassTime is the time of one pass over a batch of random tokens: the mean of as many passes as fill the given time,
// after one to warm up.
func (p *Perplexity) PassTime(ctx context.Context, vocab int, fill time.Duration) (time.Duration, error) {
	r := rand.New(rand.NewPCG(1, 2))
	passes, began := -1, time.Now()
	for ; passes < 1 || time.Since(began) < fill; passes++ {
		if passes == 0 {
			began = time.Now()
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		for i := range p.batch.Inputs {
			p.batch.Inputs[i], p.batch.Targets[i] = r.Int32N(int32(vocab)), r.Int32N(int32(vocab))
		}
		if _, _, err := p.run(int64(len(p.batch.Targets)), newBlocks(nil)); err != nil {
			return 0, err
		}
	}
	return time.Since(began) / time.Duration(passes), nil
}

// Passes is the number of passes over a set of so many tokens, with windows of the configuration and a model of the
// given context.
func (c Config) Passes(tokens int64, context int) int64 {
	if c.Context == 0 {
		c.Context = context
	}
	if c.Stride == 0 {
		c.Stride = c.Context
	}
	targets := tokens - 1
	if c.Tokens > 0 {
		targets = min(targets, int64(c.Tokens))
	}
	if targets < 1 {
		return 0
	}
	windows := 1 + max(0, (targets-int64(c.Context)+int64(c.Stride)-1)/int64(c.Stride))
	return (windows + int64(c.Batch) - 1) / int64(c.Batch)
}
