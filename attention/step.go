package attention

import (
	"cmp"

	"headroom/internal/graph"
)

// A Step runs the operations of decoding on one device, over the N new tokens of any number of requests: one token of
// each, or a piece of a prompt. It is to Decode what graph.Builder is to Forward. A value is [N, width]; only the
// device looks inside.
type Step interface {
	// Linear is x·w + bias for w [I, O], of each part of I of x; or [n, I, O] over n parts of x, each by its own.
	Linear(x graph.Buf, w graph.Param, bias *graph.Param) graph.Buf
	RMSNorm(x graph.Buf, w graph.Param, eps float64) graph.Buf // w [C], or [n, L]: each L on its own

	// Rope rotates the last r columns of each head, at its token's position. What is rotated can only be attended by,
	// or appended: a device may do it on the way there. x is no longer what it was.
	Rope(x graph.Buf, heads, r int, rotary graph.Rotary) graph.Buf

	// Expand is scale·A·B of each token, for A [heads, R] of a [N, heads·R] and B [R, dim] of b [N, R·dim].
	Expand(a, b graph.Buf, heads, dim int, scale float64) graph.Buf

	// AddScaled is x + w·z for w [C], which multiplies the columns of each part of C of z's: by it a value is made of what
	// was read. x is no longer what it was.
	AddScaled(x, z graph.Buf, w graph.Param) graph.Buf

	// Columns is the first n of x, which has been multiplied by a weight before. They can only be multiplied.
	Columns(x graph.Buf, n int) graph.Buf
	Gate(o, g graph.Buf) graph.Buf // o·sigmoid(g), o [N, H·D], g [N, H·D] or [N, H]; o is no longer what it was

	// Append writes x into its tokens' places in a slot of a layer's cache. It comes before any attention that reads
	// them.
	Append(layer, slot int, x graph.Buf)

	Attend(layer int, q graph.Buf, a CacheRead) graph.Buf        // q [N, H·(P+R)] -> [N, H·Dv]
	AttendLatent(layer int, q graph.Buf, a LatentRead) graph.Buf // q [N, H·(D+R)] -> [N, H·D]; only the R are rotated
}

// A CacheRead says how H heads of queries of P+R columns read the slots of a cache. A key is the first P columns of
// slot K and the R of slot KRope that all heads share; a value is the first Dv columns of slot V. Query head h reads
// head h/(H/G) of the G of slot K. With Turn, slot K holds keys that were not rotated, which are the values as they
// lie; reading rotates the last Turn columns of each by its token's position for the scores. Each token sees what its
// request has in the cache up to itself, or the last Window tokens of that.
//
// With Rank, slots K and V hold factors over columns, B [Rank, P] and [Rank, Dv], and KHeads and VHeads those over
// heads, A [H, Rank]: the key of head h is 1/Rank · A[h]·B of the one pair, and its value that of the other.
type CacheRead struct {
	H, P, R, Dv int
	K, V, KRope int // slots; KRope counts where R > 0
	Turn        int
	Rotary      graph.Rotary // of Turn
	Rank        int          // of factors, or 0
	KHeads      int          // slots of the factors over heads, where Rank > 0
	VHeads      int
	Scale       float64
	Window      int // 0 is all
}

// Form is how keys and values are kept that are read so: in slots of their own, or in one whose columns are all a
// key's, rotated or not yet, or the first of them.
func (a CacheRead) Form() CacheForm {
	switch {
	case a.Rank > 0:
		return Factored
	case a.K != a.V:
		return KeyValue
	case a.Turn > 0:
		return Unrotated
	case a.P == a.Dv:
		return Latent
	}
	return Tied
}

// A LatentRead says how H heads of queries of D+R columns read a cache of latents: n of L columns in slot C for each
// token, and a rope key of R columns in slot KRope that all heads share. The latents are made into M heads of keys and
// values, M/n each, and H/M query heads read one of these. Its key is Wuk of the latent with the rope key behind it,
// and its value Wuv of the latent, where [ Wuk | Wuv ] of each of the M lie side by side in Wukv [n, L, (M/n)·2D], and
// their biases in Bukv [n, (M/n)·2D], which may be nil.
//
// A device may make keys and values of the latents, or attend absorbed: Wuk goes into the query and Wuv comes after the
// sum, so that the latents are key and value as they stand (Absorbed). The key bias adds q·b to all scores of a query
// alike, which softmax does not see; the value bias is added once, since the weights of a query sum to 1.
//
// With b Branches each head reads b latents, each by a softmax of its own, and the results add up: there are n/b groups
// of heads, head h is of group h/(H·b/n), and reads the latents from b times its group on. Wukv is [n, L, (H·b/n)·2D],
// and there is no bias. Latent multiplies what is cached, before Wukv, and Sum the result.
type LatentRead struct {
	H, D, R  int
	Made     int // M; 0 is one for each query head and latent that it reads
	C, KRope int // slots
	Wukv     graph.Param
	Bukv     *graph.Param
	Scale    float64
	Window   int // as in CacheRead

	Branches    int     // 0 is 1
	Latent, Sum float64 // 0 is 1
}

// Heads are the M heads of keys and values.
func (a LatentRead) Heads() int { return cmp.Or(a.Made, a.Reads()) }

// Latents are the n latents of L columns that a token has.
func (a LatentRead) Latents() (n, L int) { return a.Wukv.Shape[0], a.Wukv.Shape[1] }

// Reads are the pairs of a query head and a latent that it reads.
func (a LatentRead) Reads() int { return a.H * max(1, a.Branches) }

// Factors multiply a latent where keys and where outputs are made of it.
func (a LatentRead) Factors() (key, value float64) {
	key = cmp.Or(a.Latent, 1)
	return key, key * cmp.Or(a.Sum, 1)
}

// Absorbed is how absorbed queries of L+R columns, one of each pair of a head and a latent that it reads, read the same
// cache, to sums of L columns.
func (a LatentRead) Absorbed() CacheRead {
	_, L := a.Latents()
	return CacheRead{H: a.Reads(), P: L, R: a.R, Dv: L, K: a.C, V: a.C, KRope: a.KRope, Scale: a.Scale,
		Window: a.Window}
}
