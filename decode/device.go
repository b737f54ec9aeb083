package decode

import "headroom/attention"

// A Backend is where models run: this machine's processor, or a GPU.
type Backend interface {
	Name() string
	ElementBytes() int // of a weight
	Cache() attention.CacheType

	Chunk() int // prompt tokens that are worth a pass of their own

	// Bandwidth is the bytes a second, read and written, of a large copy, measured now.
	Bandwidth() (float64, error)

	// Available is the bytes that are left for a model's cache beside its weights and the values of a pass; 0 where the
	// backend cannot say.
	Available(m *Model, l Limits) (int64, error)

	// Open gives a model a device with a cache pool.
	Open(m *Model, l Limits) (Device, error)
	Close() error
}

// Limits are what a device makes room for.
type Limits struct {
	Pages   int // of the cache pool
	Tail    int // of the pool of layers with windows; 0: they have theirs in the other
	Rows    int // most requests in a pass
	Tokens  int // most tokens in a pass
	Scores  int // most scored tokens in a pass
	Context int // most tokens of a request
}

// A Device holds the weights and the cache pool of a model and runs passes over them.
type Device interface {
	// Pass starts a pass over a batch, and draws a token after each that is scored.
	Pass(b Batch) error

	// Tokens waits for the oldest pass whose tokens it has not returned yet, and returns what that pass drew. The slice
	// is valid until the next call.
	Tokens() ([]int32, error)

	// Ahead says that the next pass may be started before the tokens of the last, which are drawn so, are known here:
	// the device knows them.
	Ahead(s Sampling) bool

	// Scores are the logits of scored token i of the last pass, valid until the next.
	Scores(i int) ([]float32, error)

	// CacheBytes is what the pool really takes.
	CacheBytes() int64

	// Noise gives the whole pool random content, to measure speed with.
	Noise(seed uint64) error
	Close() error
}

// A Batch is the new tokens of some requests, one request after the other.
type Batch struct {
	Tokens    []int32 // [N]; Drawn(i) is what the pass before drew for its score i
	Positions []int32 // [N], of each token in its request
	Rows      []Row
	Score     []int32 // the tokens, of the N, whose logits are wanted
	Draws     []Draw  // for each of Score, how a token is drawn after it
}

// A Row is the part of a batch that belongs to one request: tokens From to From+T of the batch, at positions Start to
// Start+T of the request, whose cache lies in Pages. That of layers with windows lies in Tail, where pages behind the
// windows are -1, on a device with a pool for it.
type Row struct {
	Pages, Tail    []int32
	Start, From, T int
}

// Drawn stands in a batch for the token that the pass before draws for its score i. It is -1-i.
func Drawn(i int) int32 { return int32(-1 - i) }

// A Draw says how a token is drawn from its logits. The zero Draw is greedy.
type Draw struct {
	Sampling
	U       float64 // from 0 to 1: where in the distribution the token lies
	History []int32 // what the repetition penalty counts; nil where there is none
}

// Token is what is drawn from logits.
func (d Draw) Token(logits []float32) int32 { return d.next(d.U, logits, d.History) }

// Add appends a row of tokens that go to position start of a cache; the last scored of them have their logits wanted.
func (b *Batch) Add(pages []int32, start int, tokens []int32, scored int) {
	from := len(b.Tokens)
	b.Rows = append(b.Rows, Row{Pages: pages, Start: start, From: from, T: len(tokens)})
	for i, t := range tokens {
		b.Tokens = append(b.Tokens, t)
		b.Positions = append(b.Positions, int32(start+i))
		if i >= len(tokens)-scored {
			b.Score, b.Draws = append(b.Score, int32(from+i)), append(b.Draws, Draw{})
		}
	}
}
