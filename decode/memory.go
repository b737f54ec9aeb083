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
	TokenBytes int                 `json:"cache_bytes_per_token"` // in all layers, until a window has left the token behind
	Bytes      int64               `json:"cache_bytes"`           // of the pools
	Pages      int                 `json:"pages"`
	Tail       int                 `json:"window_pages,omitempty"` // of layers with windows

	window int
}

// pageBytes is a page in all layers that keep all tokens, and in all that have a window.
func pageBytes(t *model.Transformer, c attention.CacheType) (full, tail int64) {
	for i := range t.Config.Layers {
		n := int64(PageTokens * t.CacheLayout(i).Bytes(1, c))
		if t.LayerAttention(i).Window > 0 {
			tail += n
		} else {
			full += n
		}
	}
	return full, tail
}

// Pool is what pools of so many pages take. Without a pool for their tails layers with windows keep all tokens.
func Pool(t *model.Transformer, pages, tailPages int, c attention.CacheType) Memory {
	full, tail := pageBytes(t, c)
	m := Memory{Type: c, TokenBytes: t.CacheBytes(1, c), Pages: pages, Tail: tailPages, window: t.Window()}
	if tailPages == 0 {
		tailPages, m.window = pages, 0
	}
	m.Bytes = int64(pages)*full + int64(tailPages)*tail
	return m
}

// Fit is the pools of whole pages of a type that fit into some bytes, for so many rows. Layers with windows get as many
// pages as other layers, and at most what the rows can need; what they do not need goes to the others.
func Fit(t *model.Transformer, rows int, bytes int64, c attention.CacheType) Memory {
	full, tail := pageBytes(t, c)
	pages := max(0, int(bytes/(full+tail)))
	if tail == 0 || pages == 0 {
		return Pool(t, pages, 0, c)
	}
	need := rows * tailPages(t.Window())
	switch {
	case full == 0: // a page of no layer costs nothing
		return Pool(t, rows*PagesFor(t.Config.Context), min(pages, need), c)
	case pages > need:
		return Pool(t, int((bytes-int64(need)*tail)/full), need, c)
	}
	return Pool(t, pages, pages, c)
}

// Largest is how many requests of S tokens each fit on a backend at once, by the layout of the cache, beside the
// weights and what a pass over so many takes. o says how they are served, but for rows and pages. Largest is 0 where
// not even one fits, or where the backend cannot say what is available.
func Largest(m *Model, on Backend, o Options, S int) (int, error) {
	fits := func(batch int) (bool, error) {
		o.Rows, o.Pages, o.Tail = batch, batch*PagesFor(S), 0
		l, err := o.Limits(m)
		if err != nil {
			return false, err
		}
		bytes, err := on.Available(m, l)
		return Fit(m.Transformer, batch, bytes, on.Cache()).Batch(S) >= batch, err
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
	if w := t.Window(); w > 0 {
		return Pool(t, PagesFor(n), tailOf(n, w), c).Bytes
	}
	return Pool(t, PagesFor(n), 0, c).Bytes
}

// Batch is how many requests of a context fit at once: each fills its own pages.
func (m Memory) Batch(context int) int {
	n := m.Pages / max(1, PagesFor(context))
	if m.window > 0 {
		n = min(n, m.Tail/max(1, tailOf(context, m.window)))
	}
	return n
}

func (m Memory) String() string {
	text := fmt.Sprintf("cache: %s, %d bytes a token, pool of %d x %d tokens", m.Type, m.TokenBytes, m.Pages, PageTokens)
	if m.window > 0 {
		text += fmt.Sprintf(" and of %d x %d in layers with windows", m.Tail, PageTokens)
	}
	return fmt.Sprintf("%s, %.2f MiB", text, float64(m.Bytes)/(1<<20))
}
