package decode

import (
	"fmt"

	"headroom/model"
)

// PageTokens is how many tokens a page of the cache holds.
const PageTokens = 64

// A pool deals out the pages of a cache. A page number means the same page in every slot of every layer.
type pool struct {
	free  []int32
	total int
}

func newPool(pages int) *pool {
	p := &pool{total: pages}
	for i := range pages {
		p.free = append(p.free, int32(pages-1-i))
	}
	return p
}

// pagesFor is how many pages hold n tokens.
func pagesFor(n int) int { return (n + PageTokens - 1) / PageTokens }

// take removes n pages, or none where there are fewer.
func (p *pool) take(n int) ([]int32, bool) {
	if n > len(p.free) {
		return nil, false
	}
	cut := len(p.free) - n
	pages := append([]int32(nil), p.free[cut:]...)
	p.free = p.free[:cut]
	return pages, true
}

func (p *pool) give(pages []int32) { p.free = append(p.free, pages...) }

// Memory is what the cache of a model takes, from its layout.
type Memory struct {
	TokenBytes int   `json:"cache_bytes_per_token"` // in all layers
	Bytes      int64 `json:"cache_bytes"`           // of the pool
	Pages      int   `json:"pages"`
}

// Fit is the pool of whole pages that fits into some bytes, at size bytes an element.
func Fit(t *model.Transformer, bytes int64, size int) Memory {
	token := t.CacheBytes(1, size)
	pages := max(0, int(bytes/int64(token*PageTokens)))
	return Memory{token, int64(pages) * int64(token*PageTokens), pages}
}

// BytesFor is the cache of one request of n tokens, in whole pages.
func BytesFor(t *model.Transformer, n, size int) int64 {
	return int64(pagesFor(n)) * PageTokens * int64(t.CacheBytes(1, size))
}

// Batch is how many requests of a context fit at once: each fills its own pages.
func (m Memory) Batch(context int) int { return m.Pages / max(1, pagesFor(context)) }

func (m Memory) String() string {
	return fmt.Sprintf("cache: %d bytes a token, pool of %d x %d tokens, %.2f MiB", m.TokenBytes, m.Pages, PageTokens, float64(m.Bytes)/(1<<20))
}
