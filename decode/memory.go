package decode

import (
	"errors"
	"fmt"
	"sort"

	"headroom/attention"
	"headroom/model"
)

// Memory is what the cache of a model takes, from its layout.
type Memory struct {
	Type       attention.CacheType `json:"cache_type"`
	TokenBytes int                 `json:"cache_bytes_per_token"` // in all layers
	Bytes      int64               `json:"cache_bytes"`           // of the pool
	Pages      int                 `json:"pages"`
}

// Fit is the pool of whole pages of a type that fits into some bytes.
func Fit(t *model.Transformer, bytes int64, c attention.CacheType) Memory {
	token := t.CacheBytes(1, c)
	pages := max(0, int(bytes/int64(token*PageTokens)))
	return Memory{c, token, int64(pages) * int64(token*PageTokens), pages}
}

// Largest is how many requests of S tokens each fit on a backend at once, by the layout of the cache, beside the
// weights and what a pass over so many takes. o says how they are served, but for rows and pages. Largest is 0 where
// not even one fits, or where the backend cannot say what is available.
func Largest(m *Model, on Backend, o Options, S int) (int, error) {
	fits := func(batch int) (bool, error) {
		o.Rows, o.Pages = batch, batch*PagesFor(S)
		l, err := o.Limits(m)
		if err != nil {
			return false, err
		}
		bytes, err := on.Available(m, l)
		return o.Pages <= Fit(m.Transformer, bytes, on.Cache()).Pages, err
	}
	most := 1
	for ok := true; ok; most *= 2 {
		var err error
		if ok, err = fits(most); err != nil {
			return 0, err
		}
	}
	var failed error
	n := sort.Search(most/2, func(i int) bool {
		ok, err := fits(i + 1)
		failed = errors.Join(failed, err)
		return !ok
	})
	return n, failed
}

// BytesFor is the cache of one request of n tokens, in whole pages of a type.
func BytesFor(t *model.Transformer, n int, c attention.CacheType) int64 {
	return int64(PagesFor(n)) * PageTokens * int64(t.CacheBytes(1, c))
}

// Batch is how many requests of a context fit at once: each fills its own pages.
func (m Memory) Batch(context int) int { return m.Pages / max(1, PagesFor(context)) }

func (m Memory) String() string {
	return fmt.Sprintf("cache: %s, %d bytes a token, pool of %d x %d tokens, %.2f MiB", m.Type, m.TokenBytes, m.Pages,
		PageTokens, float64(m.Bytes)/(1<<20))
}
