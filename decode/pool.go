package decode

import "container/list"

// PageTokens is how many tokens a page of the cache holds.
const PageTokens = 64

// A pool allocates the pages of a cache. A page number means the same page in every slot of every layer. Pages that are
// full may be shared by requests that begin with the same tokens, and stay known after the last of them has gone, until
// they are taken for something else: the longest unused first.
type pool struct {
	total int
	free  []int32   // pages without content
	kept  list.List // of known pages that no request has, the longest unused first
	pages []page
	known map[block]int32
	names uint64 // how many names of contents were given
}

// A page is what the pool knows of one.
type page struct {
	users int
	name  uint64 // of its content; 0: it is not known
	block *block
	kept  *list.Element
}

// A block is the content of a full page: its tokens, and the content before them by its name, which is never given
// twice.
type block struct {
	after  uint64
	tokens [PageTokens]int32
}

func newPool(pages int) *pool {
	p := &pool{total: pages, pages: make([]page, pages), known: map[block]int32{}}
	for i := range pages {
		p.free = append(p.free, int32(pages-1-i))
	}
	return p
}

// PagesFor is how many pages hold n tokens.
func PagesFor(n int) int { return (n + PageTokens - 1) / PageTokens }

// left is how many pages no request has.
func (p *pool) left() int { return len(p.free) + p.kept.Len() }

// take removes n pages, or none where there are fewer.
func (p *pool) take(n int) ([]int32, bool) {
	if n > p.left() {
		return nil, false
	}
	for len(p.free) < n {
		p.forget(p.kept.Front().Value.(int32))
	}
	cut := len(p.free) - n
	taken := append([]int32(nil), p.free[cut:]...)
	p.free = p.free[:cut]
	for _, i := range taken {
		p.pages[i].users = 1
	}
	return taken, true
}

// forget frees a kept page. Pages whose content followed it can no longer be found, and are reused later.
func (p *pool) forget(i int32) {
	x := &p.pages[i]
	delete(p.known, *x.block)
	p.kept.Remove(x.kept)
	*x = page{}
	p.free = append(p.free, i)
}

// share counts one more user of known pages.
func (p *pool) share(pages []int32) {
	for _, i := range pages {
		x := &p.pages[i]
		if x.users++; x.kept != nil {
			p.kept.Remove(x.kept)
			x.kept = nil
		}
	}
}

// give returns pages to the pool. Of those that no request has then, the last is reused first.
func (p *pool) give(pages []int32) {
	for at := len(pages) - 1; at >= 0; at-- {
		i := pages[at]
		x := &p.pages[i]
		switch x.users--; {
		case x.users > 0:
		case x.name != 0:
			x.kept = p.kept.PushBack(i)
		default:
			p.free = append(p.free, i)
		}
	}
}

// find is the known pages that hold the beginning of tokens.
func (p *pool) find(tokens []int32) (pages []int32) {
	var b block
	for len(tokens) >= PageTokens {
		copy(b.tokens[:], tokens)
		i, ok := p.known[b]
		if !ok {
			return pages
		}
		pages, tokens = append(pages, i), tokens[PageTokens:]
		b.after = p.pages[i].name
	}
	return pages
}

// learn makes a full page known, unless another with the same content is, and returns the content's name.
func (p *pool) learn(i int32, after uint64, tokens []int32) uint64 {
	b := block{after: after, tokens: [PageTokens]int32(tokens)}
	if same, ok := p.known[b]; ok {
		return p.pages[same].name
	}
	p.names++
	p.known[b], p.pages[i].name, p.pages[i].block = i, p.names, &b
	return p.names
}
