// Causal attention for training. Every kernel of attention_*.cu takes this one struct by value. The key of head h is P
// columns of K, of group g = h / (H/G), followed by R columns of KRope, which all heads share; the value is Dv columns
// of V. K and V may overlap (tied): then dV receives both gradients in its first P columns and dK is not written.
#pragma once
#include "mma.cuh"

template <typename E> struct AttentionArgs {
	const E *q;         // [B, T, H, P+R]
	const E *k;         // [B, T, G, kStride], the first P columns
	const E *v;         // [B, T, G, vStride], the first Dv columns
	const E *kRope;     // [B, T, R]
	E *o;               // [B, T, H, Dv]
	float *lse;         // [B, H, T], natural logarithm
	const E *dO;        // [B, T, H, Dv]
	E *dQ;              // [B, T, H, P+R]
	E *dK;              // as k
	E *dV;              // as v
	E *dKRope;          // [B, T, R]
	float2 *stats;      // [B, H, Tp], Tp = T rounded up to 64: { -lse·log2(e), Σ dO·O }, { -inf, 0 } past T
	float *ropeParts;   // [B, G, T, R]: dKRope before the sum over groups
	int *queue;         // 2 zeros, which every launch leaves zero
	int B, T, H, G, P, R, Dv, kStride, vStride;
	int tied;
	int chunk;          // heads (groups, for dK and dV) that walk the sequence together, so that their rows stay in L2
	float scale;
	uint4 *dS;          // nil, or blocks of 64 queries by 64 keys of [B, H]: see scoreGradients in attention_tile.cuh
	int start;          // forward only: keys before the first query, a multiple of 64; k, v and kRope have start + T rows
	int window;         // masked kernels alone, which have no start: keys that a query reads, its own with them; 0: all
	const int *starts;  // masked kernels alone: [B, T] where the document of each position starts in its row; nil: at 0
	const int *ends;    // masked gradients on Hopper alone: [B, T] behind the last query that reads each key
};
static_assert(sizeof(AttentionArgs<bf16>) == 192);

constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;

// firstKey is the first key that the query at position t of row b reads in masked kernels. It never falls as t grows, so
// that the queries of a tile read no tile of keys before that of the first one's.
template <typename E> __device__ __forceinline__ int firstKey(const AttentionArgs<E> &p, int b, int t) {
	t = min(t, p.T - 1);
	return max(p.window > 0 ? t - p.window + 1 : 0, p.starts ? p.starts[(size_t)b * p.T + t] : 0);
}

__device__ __forceinline__ int paddedT(int T) { return (T + 63) / 64 * 64; }
