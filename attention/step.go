package attention

import "headroom/internal/graph"

// A Step runs the operations of decoding on one device, over the N new tokens of any number of requests: one token of
// each, or a piece of a prompt. It is to Decode what graph.Builder is to Forward. A value is [N, width]; only the device
// looks inside.
type Step interface {
	Linear(x graph.Buf, w graph.Param, bias *graph.Param) graph.Buf // w [I, O], or [n, I, O] over n parts of x
	RMSNorm(x graph.Buf, w graph.Param, eps float64) graph.Buf      // w [C], or [n, L]: each L on its own
	Rope(x graph.Buf, heads, r int, theta float64) graph.Buf        // the last r of each head, at its token's position, in place

	// Absorb multiplies Wuk into queries, [N, H·(D+R)] -> [N, H·(L+R)], and leaves their R rotated columns as they are;
	// Expand multiplies Wuv into sums of latents and adds its bias, [N, H·L] -> [N, H·D]. wukv is [n, L, (H/n)·2D].
	Absorb(q graph.Buf, wukv graph.Param, heads, d, r int) graph.Buf
	Expand(o graph.Buf, wukv graph.Param, bukv *graph.Param, heads, d int) graph.Buf

	Append(layer, slot int, x graph.Buf)                  // x into its tokens' places in a slot of the layer's cache
	Attend(layer int, q graph.Buf, a CacheRead) graph.Buf // -> [N, H·Dv]
}

// A CacheRead says how H heads of queries of P+R columns read the slots of a cache. A key is the first P columns of slot K
// and the R of slot KRope that all heads share; a value is the first Dv columns of slot V. Query head h reads head
// h/(H/G) of the G of slot K. Each token sees what its request has in the cache up to itself.
type CacheRead struct {
	H, P, R, Dv int
	K, V, KRope int // slots; KRope counts where R > 0
	Scale       float64
}
