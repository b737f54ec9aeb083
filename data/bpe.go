package data

import "container/heap"

// Alphabet spells bytes as byte-level BPE does: those that print stand for themselves, and the others, in order, for
// the runes from U+0100.
var Alphabet = func() (a [256]rune) {
	next := rune(256)
	for b := range a {
		switch {
		case '!' <= b && b <= '~', 0xa1 <= b && b <= 0xac, 0xae <= b && b <= 0xff:
			a[b] = rune(b)
		default:
			a[b] = next
			next++
		}
	}
	return a
}()

var alphabetBytes = func() map[rune]byte {
	m := make(map[rune]byte, 256)
	for b, r := range Alphabet {
		m[r] = byte(b)
	}
	return m
}()

// unspelled returns the bytes that a token of the alphabet stands for. ok is false where a rune is not in the alphabet.
func unspelled(token string) (piece []byte, ok bool) {
	for _, r := range token {
		b, ok := alphabetBytes[r]
		if !ok {
			return nil, false
		}
		piece = append(piece, b)
	}
	return piece, true
}

// A pair is two adjacent ids.
type pair [2]int32

type merge struct{ rank, id int32 }

// A merger merges the bytes of a pre-token. It merges the adjacent pair of least rank, the leftmost of equal ones,
// until no pair has a rank (Sennrich et al., 2016, arXiv:1508.07909).
type merger struct {
	bytes  [256]int32
	merges map[pair]merge
	whole  map[string]int32 // pre-tokens that are tokens by themselves, where merges are ignored for them
	pieces [][]byte         // where the ids of whole are the ranks, as in tiktoken's vocabularies, instead of merges
}

// ranked returns the merger of a vocabulary whose ids are the ranks.
func ranked(pieces [][]byte) *merger {
	b := &merger{whole: make(map[string]int32, len(pieces)), pieces: pieces}
	for id, piece := range pieces {
		if piece != nil {
			b.whole[string(piece)] = int32(id)
		}
	}
	for c := range b.bytes {
		b.bytes[c] = b.whole[string([]byte{byte(c)})]
	}
	return b
}

func (b *merger) find(left, right int32) (merge, bool) {
	if b.pieces == nil {
		m, ok := b.merges[pair{left, right}]
		return m, ok
	}
	var buf [64]byte
	id, ok := b.whole[string(append(append(buf[:0], b.pieces[left]...), b.pieces[right]...))]
	return merge{id, id}, ok
}

// scanned is the most parts for which the whole list is searched at each merge. A heap is faster for more.
const scanned = 40

func (b *merger) append(ids []int32, piece string) []int32 {
	if id, ok := b.whole[piece]; ok {
		return append(ids, id)
	}
	start := len(ids)
	for i := range len(piece) {
		ids = append(ids, b.bytes[piece[i]])
	}
	if len(piece) > scanned {
		return ids[:start+b.mergeLong(ids[start:])]
	}
	for {
		at, best := -1, merge{}
		for i := start; i+1 < len(ids); i++ {
			if m, ok := b.find(ids[i], ids[i+1]); ok && (at < 0 || m.rank < best.rank) {
				at, best = i, m
			}
		}
		if at < 0 {
			return ids
		}
		ids[at] = best.id
		ids = append(ids[:at+1], ids[at+2:]...)
	}
}

// A candidate is a pair that may merge: of least rank first, then leftmost.
type candidate struct {
	merge
	at int
}

type candidates []candidate

func (c candidates) Len() int { return len(c) }
func (c candidates) Less(i, j int) bool {
	return c[i].rank < c[j].rank || c[i].rank == c[j].rank && c[i].at < c[j].at
}
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }

// Push appends, for container/heap.
func (c *candidates) Push(x any) { *c = append(*c, x.(candidate)) }

// Pop takes the last, for container/heap.
func (c *candidates) Pop() any {
	old := *c
	x := old[len(old)-1]
	*c = old[:len(old)-1]
	return x
}

// mergeLong merges ids in place, in n log n steps, and returns how many are left.
func (b *merger) mergeLong(ids []int32) int {
	n := len(ids)
	// a linked list of the parts that are left; an id of -1 was merged into another
	before, after := make([]int, n), make([]int, n)
	var queue candidates
	offer := func(i int) {
		if i >= 0 && after[i] < n {
			if m, ok := b.find(ids[i], ids[after[i]]); ok {
				heap.Push(&queue, candidate{m, i})
			}
		}
	}
	for i := range ids {
		before[i], after[i] = i-1, i+1
	}
	for i := range ids {
		offer(i)
	}
	for len(queue) > 0 {
		c := heap.Pop(&queue).(candidate)
		if ids[c.at] < 0 || after[c.at] >= n {
			continue
		}
		next := after[c.at]
		if m, ok := b.find(ids[c.at], ids[next]); !ok || m != c.merge {
			continue // one of the two has merged with another since
		}
		ids[c.at], ids[next] = c.id, -1
		if after[c.at] = after[next]; after[c.at] < n {
			before[after[c.at]] = c.at
		}
		offer(before[c.at])
		offer(c.at)
	}
	left := 0
	for i := 0; i < n; i = after[i] {
		ids[left] = ids[i]
		left++
	}
	return left
}
