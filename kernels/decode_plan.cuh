// What every decode-attention kernel shares: its arguments, the cut of the batch into equal contiguous ranges, and the
// merge of requests that were cut. All of it runs inside the one launch: a block finds its own range, and blocks that
// shared a request wait for each other and then merge a slice each, so there is neither a scheduling nor a combining
// kernel. The wait is safe because the grid never exceeds the blocks that fit on the device at once.
//
// A launch starts while the kernel before it still runs: it plans, looks pages up and copies the tokens that were there
// before, and waits (step_wait) ahead of what that kernel may write: queries and the T new tokens of each request.
#pragma once
#include "mma.cuh"
#include "step.cuh"
#include <math_constants.h>

// Letters: B requests, T new tokens each, H query heads, G kv or latent heads, R rope columns. A slot is one token's
// place in the cache: page · pageSize + offset.
struct DecodeArgs {
	const bf16 *q;      // [B, T, H, P+R]: P columns against k, R against kRope
	const bf16 *k;      // [slots, G, Dv or D]
	const bf16 *v;      // [slots, G, D]; unused where the value is the first Dv columns of k
	const bf16 *kRope;  // [slots, R], one for all heads
	const int *pages;   // [B, maxPages]
	const int *lengths; // [B], the T new tokens included
	bf16 *out;          // [B, T, H, Dv]
	float *lse;         // [B, T, H], natural logarithm
	float *partial;     // [pieces, G, T·H/G, Dv]
	float *partialLSE;  // [G, T·H/G, pieces], base 2
	unsigned *arrived;  // [B, tiles], zero before and after every launch
	int B, T, H, G, P, R, maxPages, pageShift;
	int parts, tiles;   // grid = parts · tiles, the tiles of one part side by side: they read the same cache
	int heads;          // kv heads of one tile (decode_mma)
	int warpRows;       // warps that share tokens and split rows (decode_mma)
	int stages;         // of the copy pipeline (decode_mma)
	int unitShift;      // requests are cut at multiples of 2^unitShift tokens: 64, or the length of fixed pieces
	int pieces;         // partial results that there is room for
	int fixed;          // 1: every 2^unitShift tokens are a piece, so that results do not depend on the batch
	float scale;        // of the scores, times log2(e)
};
static_assert(sizeof(DecodeArgs) == 160);

constexpr int kBlockTokens = 64;
constexpr int kRequestCost = 1;  // of starting a request, in blocks
constexpr int kLeastBlocks = 2;  // a part has at least so many

__device__ __forceinline__ int requestLength(const DecodeArgs &p, int b) {
	const int most = p.maxPages << p.pageShift;
	return max(0, min(p.lengths[b], most));
}
__device__ __forceinline__ int requestUnits(const DecodeArgs &p, int length) {
	return max(1, (length + (1 << p.unitShift) - 1) >> p.unitShift); // an empty request still writes its zeros
}

// A Span is a run of tokens of one request that one block works on: the whole request (pieces == 1) or a piece of it.
struct Span {
	int b, length, from, to; // tokens [from, to) of length
	int pieces, piece;       // piece: where its partial result goes
	int firstPiece, pieceStep, firstPart, lastPart;
	__device__ __forceinline__ int sharers() const { return lastPart - firstPart + 1; }
	// partialOf says where piece i of the request lies
	__device__ __forceinline__ int partialOf(int i) const {
		return pieceStep == 1 ? firstPiece + i : (i == 0 ? firstPiece : firstPiece - 1 + 2 * i);
	}
};

// Unit numbers times parts stay below 2^32: 30 million blocks.
// A Walk goes through the spans of one part. Units are blocks, or chunks when pieces are fixed; every request costs
// kRequestCost units more, ahead of its own.
struct Walk {
	int part, parts, total; // parts in use, units in all
	int at, end;            // the part's units
	int b, start;           // the request at hand and its first unit

	__device__ __forceinline__ int partOf(int unit) const { return ((unit + 1u) * parts - 1u) / total; }

	__device__ __forceinline__ bool next(const DecodeArgs &p, Span &x) {
		while (b < p.B && at < end) {
			const int length = requestLength(p, b), n = requestUnits(p, length), first = start + kRequestCost;
			const int lo = max(at - first, 0);
			if (lo >= n) {
				start = first + n;
				b++;
				continue;
			}
			int hi = min(end - first, n);
			if (hi <= lo) return false;
			x.b = b;
			x.length = length;
			x.firstPart = partOf(first);
			x.lastPart = partOf(first + n - 1);
			if (p.fixed) {
				hi = lo + 1;
				x.pieces = n;
				x.firstPiece = start - b * kRequestCost;
				x.pieceStep = 1;
				x.piece = x.firstPiece + lo;
			} else {
				x.pieces = x.lastPart - x.firstPart + 1;
				x.firstPiece = 2 * x.firstPart + 1; // the last span of its part; later pieces are the first of theirs
				x.pieceStep = 2;
				x.piece = part == x.firstPart ? x.firstPiece : 2 * part;
			}
			x.from = lo << p.unitShift;
			x.to = min(hi << p.unitShift, length);
			at = first + hi;
			return true;
		}
		return false;
	}
};

// findWalk runs in one warp and leaves the walk of this block's part in shared memory.
__device__ __forceinline__ void findWalk(const DecodeArgs &p, int part, Walk *w) {
	const int lane = threadIdx.x & 31;
	int total = 0, least = 1 << 30, most = 0;
#pragma unroll 4 // loads: each would wait for memory
	for (int b = lane; b < p.B; b += 32) {
		const int units = requestUnits(p, requestLength(p, b)) + kRequestCost;
		total += units;
		least = min(least, units);
		most = max(most, units);
	}
#pragma unroll 1
	for (int d = 16; d; d >>= 1) {
		total += __shfl_xor_sync(~0u, total, d);
		least = min(least, __shfl_xor_sync(~0u, least, d));
		most = max(most, __shfl_xor_sync(~0u, most, d));
	}
	int parts = max(1, min(p.parts, p.fixed ? total : total / kLeastBlocks));
	const bool even = least == most;
	if (even) { // rather a few parts less than parts of two requests
		const int n = parts - lane;
		const unsigned fit = __ballot_sync(~0u, lane < parts / 16 && (p.B % n == 0 || n % p.B == 0));
		if (fit) parts -= __ffs(fit) - 1;
	}
	const int at = (unsigned)total * part / parts, end = (unsigned)total * (part + 1) / parts;
	const bool idle = part >= parts;
	if (lane == 0) *w = Walk{part, parts, total, at, idle ? at : end, idle ? p.B : at / most, idle ? 0 : at / most * most};
	__syncwarp();
	if (idle || even) return;
	int before = 0;
#pragma unroll 1
	for (int base = 0; base < p.B && before <= at; base += 32) {
		const int b = base + lane;
		int own = b < p.B ? requestUnits(p, requestLength(p, b)) + kRequestCost : 0, sum = own;
#pragma unroll 1
		for (int d = 1; d < 32; d <<= 1) {
			const int up = __shfl_up_sync(~0u, sum, d);
			if (lane >= d) sum += up;
		}
		if (before + sum - own <= at && at < before + sum) {
			w->b = b;
			w->start = before + sum - own;
		}
		before += __shfl_sync(~0u, sum, 31);
	}
}

// prefetchPages brings the page table's entries of the tokens from `token` on into L2: they are wanted a few tiles
// later.
__device__ __forceinline__ void prefetchPages(const DecodeArgs &p, int b, int token) {
	asm volatile("prefetch.global.L2 [%0];" ::"l"(p.pages + (long)b * p.maxPages + min(token >> p.pageShift, p.maxPages - 1)));
}

// rowOffset: row r of kv head g of request b in q, out and lse, in rows of [B, T, H]
__device__ __forceinline__ long rowOffset(const DecodeArgs &p, int b, int g, int r) {
	const int group = p.H / p.G, t = r / group;
	return ((long)b * p.T + t) * p.H + g * group + (r - t * group);
}
// rowLimit: the tokens that row r may see (causal from the bottom right)
__device__ __forceinline__ int rowLimit(const DecodeArgs &p, int length, int r) {
	return length - p.T + r / (p.H / p.G) + 1;
}

// The blocks of a request count on its counter twice, each piece once it is written and each block once it has merged
// its share; the last count makes it zero again. arrive is for a piece whose writers have all passed a barrier.
__device__ __forceinline__ void arrive(unsigned *counter, const Span &x) {
	asm volatile("red.release.gpu.global.inc.u32 [%0], %1;" ::"l"(counter), "r"(x.pieces + x.sharers() - 1) : "memory");
}
__device__ __forceinline__ void leave(unsigned *counter, const Span &x) {
	asm volatile("red.relaxed.gpu.global.inc.u32 [%0], %1;" ::"l"(counter), "r"(x.pieces + x.sharers() - 1) : "memory");
}

__device__ __forceinline__ void blockSync(int barrier, int threads) {
	asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// mergeRows finds, for each row of a slice, the largest log-sum-exp of its pieces and one over the sum of their
// weights, a warp a row, and writes the row's own log-sum-exp. Log-sum-exps of a row lie side by side and are read
// through L1.
template <int DV> __device__ __forceinline__ void mergeRows(const DecodeArgs &p, const Span &x, int g0, int r0, int rows, int lo, int hi, int threads, float2 *rowWeights) {
	constexpr int VECTORS = DV / 4;
	const int lane = threadIdx.x & 31, all = p.T * (p.H / p.G), first = lo / VECTORS, end = (hi + VECTORS - 1) / VECTORS;
#pragma unroll 1
	for (int i = first + (threadIdx.x >> 5); i < end; i += threads >> 5) {
		const int g = g0 + i / rows, r = r0 + i % rows;
		const float *lse = p.partialLSE + ((long)g * all + r) * p.pieces;
		float most = -CUDART_INF_F, sum = 0.f;
#pragma unroll 4
		for (int s = lane; s < x.pieces; s += 32) most = fmaxf(most, lse[x.partialOf(s)]);
#pragma unroll 1
		for (int d = 16; d; d >>= 1) most = fmaxf(most, __shfl_xor_sync(~0u, most, d));
		most = most == -CUDART_INF_F ? 0.f : most;
#pragma unroll 1
		for (int s = lane; s < x.pieces; s += 32) sum += fastExp2(lse[x.partialOf(s)] - most);
#pragma unroll 1
		for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(~0u, sum, d);
		if (lane == 0) {
			rowWeights[i - first] = float2{most, sum > 0.f ? 1.f / sum : 0.f};
			if (i * VECTORS >= lo) p.lse[rowOffset(p, x.b, g, r)] = sum > 0.f ? (most + log2f(sum)) * 0.69314718056f : -CUDART_INF_F;
		}
	}
}

// mergeSlice merges the pieces of vectors lo..hi (4 columns of a row of a head) of a request. What it waits for is
// memory, so all that fits the `bytes` of room is fetched at once, while the weights are found; and it is short, since
// its instructions come from memory too: with 3,590 of them a request of 1,024 tokens took 23 us, with 1,095 it takes
// 18.
template <int DV> __device__ __forceinline__ void mergeSlice(const DecodeArgs &p, const Span &x, int g0, int r0, int rows, int lo, int hi, int threads, int barrier, char *room, int bytes) {
	constexpr int VECTORS = DV / 4;
	const int tid = threadIdx.x, all = p.T * (p.H / p.G), first = lo / VECTORS;
	const long pieceRows = (long)p.G * all;
	auto rowOf = [&](int i) { // of [G, T·H/G]: row i of the tile
		int at = g0 * all + r0;
		for (; i >= rows; i -= rows) at += all;
		return at + i;
	};
	// most and 1/sum of the slice's rows | weights [rows, pieces] | parts [pieces, vectors]
	float2 *rowWeights = (float2 *)room;
	const int head = ((hi - 1) / VECTORS - first + 2) / 2 * 16;
	float *weights = (float *)(room + head);
	bytes -= head + 16;
	int n;
#pragma unroll 1
	for (int v0 = lo; v0 < hi; v0 += n) {
		n = min(hi - v0, max(threads, (bytes / x.pieces - 8) / 17)); // all of their pieces fit, or each thread has a single vector
		const int row0 = v0 / VECTORS, nrows = (v0 + n - 1) / VECTORS - row0 + 1;
		const int most = min(x.pieces, bytes / (16 * n + 4 * nrows)); // pieces at a time
		float4 *parts = (float4 *)(weights + (nrows * most + 3) / 4 * 4);
		float4 o = {0.f, 0.f, 0.f, 0.f};
#pragma unroll 1
		for (int s0 = 0; s0 < x.pieces; s0 += most) {
			const int count = min(most, x.pieces - s0), steps = threads / n, stepv = threads % n;
			if (v0 > lo || s0 > 0) blockSync(barrier, threads);
#pragma unroll 2
			for (int s = tid / n, v = tid % n; s < count;) {
				copyAsync16(smemAddress(parts + s * n + v), p.partial + (x.partialOf(s0 + s) * pieceRows + rowOf((v0 + v) / VECTORS)) * DV + (v0 + v) % VECTORS * 4, true);
				s += steps, v += stepv;
				if (v >= n) v -= n, s++;
			}
			if (v0 == lo && s0 == 0) {
				mergeRows<DV>(p, x, g0, r0, rows, lo, hi, threads, rowWeights);
				blockSync(barrier, threads);
			}
#pragma unroll 1
			for (int i = tid >> 5; i < nrows; i += threads >> 5)
#pragma unroll 1
				for (int s = tid & 31; s < count; s += 32)
					weights[i * most + s] = fastExp2(p.partialLSE[(long)rowOf(row0 + i) * p.pieces + x.partialOf(s0 + s)] - rowWeights[row0 + i - first].x);
			asm volatile("cp.async.wait_all;" ::: "memory");
			blockSync(barrier, threads);
#pragma unroll 1
			for (int v = tid; v < n; v += threads) {
				const int i = (v0 + v) / VECTORS, row = rowOf(i), g = row / all;
				const float *weight = weights + (i - row0) * most;
#pragma unroll 4
				for (int s = 0; s < count; s++) {
					const float4 part = parts[s * n + v];
					o.x += weight[s] * part.x, o.y += weight[s] * part.y, o.z += weight[s] * part.z, o.w += weight[s] * part.w;
				}
				if (s0 + count < x.pieces) continue;
				const float inv = rowWeights[i - first].y;
				*(uint2 *)(p.out + rowOffset(p, x.b, g, row - g * all) * DV + (v0 + v) % VECTORS * 4) = uint2{packBF16(o.x * inv, o.y * inv), packBF16(o.z * inv, o.w * inv)};
				o = {0.f, 0.f, 0.f, 0.f};
			}
		}
	}
}

constexpr int kFewPieces = 8;

// mergeFew does the same where pieces are few: a thread takes a vector with all its pieces, in one trip to memory.
template <int DV> __device__ __forceinline__ void mergeFew(const DecodeArgs &p, const Span &x, int g0, int r0, int rows, int lo, int hi, int threads) {
	constexpr int VECTORS = DV / 4;
	const int all = p.T * (p.H / p.G);
#pragma unroll 1
	for (int v = lo + threadIdx.x; v < hi; v += threads) {
		const int i = v / VECTORS, col = v % VECTORS * 4, g = g0 + i / rows, r = r0 + i % rows;
		const long row = (long)g * all + r, out = rowOffset(p, x.b, g, r);
		float lse[kFewPieces], most = -CUDART_INF_F, sum = 0.f;
		float4 part[kFewPieces], o = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
		for (int s = 0; s < kFewPieces; s++) {
			const long piece = x.partialOf(s);
			lse[s] = s < x.pieces ? __ldcg(p.partialLSE + row * p.pieces + piece) : -CUDART_INF_F;
			part[s] = s < x.pieces ? __ldcg((const float4 *)(p.partial + (piece * p.G * all + row) * DV + col)) : o;
		}
#pragma unroll
		for (int s = 0; s < kFewPieces; s++) most = fmaxf(most, lse[s]);
		most = most == -CUDART_INF_F ? 0.f : most;
#pragma unroll
		for (int s = 0; s < kFewPieces; s++) {
			const float weight = fastExp2(lse[s] - most);
			sum += weight;
			o.x += weight * part[s].x, o.y += weight * part[s].y, o.z += weight * part[s].z, o.w += weight * part[s].w;
		}
		const float inv = sum > 0.f ? 1.f / sum : 0.f;
		*(uint2 *)(p.out + out * DV + col) = uint2{packBF16(o.x * inv, o.y * inv), packBF16(o.z * inv, o.w * inv)};
		if (col == 0) p.lse[out] = sum > 0.f ? (most + log2f(sum)) * 0.69314718056f : -CUDART_INF_F;
	}
}

// combine merges the cut requests of a part: of each it takes the slice that falls to it, once all pieces are there.
// The first `threads` threads of a block call it; the tile is heads g0.. and rows r0..r0+rows. The block's shared
// memory, from room on, is free by then.
template <int DV> __device__ __forceinline__ void combine(const DecodeArgs &p, Walk walk, int tile, int g0, int heads, int r0, int rows, int threads, int barrier, char *room) {
	int bytes;
	asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(bytes));
	Span x;
	int last = -1;
	while (walk.next(p, x)) {
		if (x.pieces == 1 || x.b == last) continue;
		last = x.b;
		unsigned *counter = p.arrived + (long)x.b * p.tiles + tile;
		if (threadIdx.x == 0) {
			unsigned n;
			do {
				asm volatile("ld.acquire.gpu.global.b32 %0, [%1];" : "=r"(n) : "l"(counter) : "memory");
			} while (n < (unsigned)x.pieces);
		}
		blockSync(barrier, threads);
		const int vectors = heads * rows * (DV / 4), sharers = x.sharers(), me = walk.part - x.firstPart;
		const int lo = (unsigned)vectors * me / sharers, hi = (unsigned)vectors * (me + 1) / sharers;
		if (x.pieces <= kFewPieces) mergeFew<DV>(p, x, g0, r0, rows, lo, hi, threads);
		else if (lo < hi) mergeSlice<DV>(p, x, g0, r0, rows, lo, hi, threads, barrier, room, bytes);
		blockSync(barrier, threads);
		if (threadIdx.x == 0) leave(counter, x);
	}
}
