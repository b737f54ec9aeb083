package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"headroom/attention"
	"headroom/configs"
	"headroom/data"
	"headroom/decode"
	"headroom/eval"
)

// CacheTypes reads names of types of cache, of which there may be none: then it is the one of the precision.
func CacheTypes(names []string) (types []attention.CacheType, err error) {
	for _, name := range names {
		c := attention.CacheType(name)
		if err := c.Validate(); err != nil {
			return nil, err
		}
		if !slices.Contains(types, c) {
			types = append(types, c)
		}
	}
	return types, nil
}

// MeasureCached evaluates a checkpoint on the sets that Measure evaluates, through caches of some types.
func MeasureCached(ctx context.Context, checkpoint string, c configs.Run, types []attention.CacheType) (
	all []eval.Cached, err error) {
	if c.Data.Documents == data.DocumentMask {
		return nil, errors.New("lab: --cache-type measures through a cache that reads across documents, and this model was " +
			"trained with data.documents: mask")
	}
	m, err := decode.Load(checkpoint)
	if err != nil {
		return nil, err
	}
	for _, t := range types {
		one, err := measureCached(ctx, m, c, t)
		if err != nil {
			if ctx.Err() != nil {
				err = &Failed{err}
			}
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func measureCached(ctx context.Context, m *decode.Model, c configs.Run, t attention.CacheType) (
	r eval.Cached, err error) {
	on, err := Decoder(c.Train.Device, c.Train.Precision, 1, t)
	if err != nil {
		return r, err
	}
	defer on.Close()
	p, err := eval.NewCachedPerplexity(m, on, c.Eval)
	if err != nil {
		return r, err
	}
	defer p.Close()
	p.Progress = os.Stderr
	r = eval.Cached{Cache: on.Cache(), TokenBytes: m.CacheBytes(1, on.Cache()), Device: on.Name()}
	sets := Sets(c)
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		tokens, err := openTokens(sets[name], c)
		if err != nil {
			return r, err
		}
		one, err := p.Measure(ctx, name, tokens)
		tokens.Close()
		if err != nil {
			return r, err
		}
		r.Sets = append(r.Sets, one)
	}
	return r, nil
}

// CachedMeasurements is a line for each type and set, beside the first type.
func CachedMeasurements(all []eval.Cached) string {
	var s strings.Builder
	for _, c := range all {
		for i, m := range c.Sets {
			fmt.Fprintf(&s, "%s through a cache in %s, %d bytes a token: perplexity %.4f, %.4f nats per token over %d tokens",
				m.Set, c.Cache, c.TokenBytes, m.Perplexity, m.NLL, m.Tokens)
			if first := all[0]; c.Cache != first.Cache {
				fmt.Fprintf(&s, ", %+.3f%% of %s's perplexity", 100*(m.Perplexity/first.Sets[i].Perplexity-1), first.Cache)
			}
			s.WriteString("\n")
		}
	}
	return s.String()
}
