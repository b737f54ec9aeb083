// What lies around the products of decode_mma.cu: how a block's shared memory is divided, the walk over its tiles of
// tokens, the warpgroup that copies them, and the merge of the warps that shared a span.
#pragma once
#include "decode_plan.cuh"

namespace {

constexpr int kMaxThreads = 8 * 32 + 128, kMaxStages = 16, kChunk = 128, kRopeColumns = 64, CONSUMERS = 1;

enum Kind { KV, TIED, LATENT };

// Tiles walks the token tiles of a part, across requests.
struct Tiles {
	Walk walk;
	Span x;
	int at;
	bool live;
	__device__ __forceinline__ void start(const DecodeArgs &p, const Walk &w) {
		walk = w;
		live = walk.next(p, x);
		at = live ? x.from : 0;
	}
	__device__ __forceinline__ void step(const DecodeArgs &p, int tokens) {
		at += tokens;
		if (at < x.to) return;
		live = walk.next(p, x);
		at = live ? x.from : 0;
	}
};

// Barriers of shared memory, as sm_80 has them too.
__device__ __forceinline__ void initBarrier(uint32_t bar, int count) { asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory"); }
__device__ __forceinline__ void arriveBarrier(uint32_t bar) { asm volatile("{.reg .b64 s; mbarrier.arrive.shared.b64 s, [%0];}" ::"r"(bar) : "memory"); }
__device__ __forceinline__ void waitBarrier(uint32_t bar, uint32_t parity) {
#ifdef HOPPER
	barrierWait(bar, parity);
#else
	asm volatile("{.reg .pred p; AGAIN: mbarrier.test_wait.parity.shared.b64 p, [%0], %1; @!p bra AGAIN;}" ::"r"(bar), "r"(parity) : "memory");
#endif
}

// copyRow copies, with 8 lanes, each from its own 16 bytes on, a row of steps · 128 bytes and, where `rest`, 16 bytes a
// lane more. Its loops stay loops: unrolled for every length and eight rows, the copying warps waited for their own
// instructions.
__device__ __forceinline__ void copyRow(uint32_t dst, const char *from, int steps, bool rest) {
#pragma unroll 1
	for (; steps >= 4; steps -= 4, dst += 512, from += 512) {
		copyAsync16(dst, from, true);
		copyAsync16(dst + 128, from + 128, true);
		copyAsync16(dst + 256, from + 256, true);
		copyAsync16(dst + 384, from + 384, true);
	}
#pragma unroll 1
	for (; steps > 0; steps--, dst += 128, from += 128) copyAsync16(dst, from, true);
	if (rest) copyAsync16(dst, from, true);
}

// A Memory is how shared memory is divided: query rows, later the merge | running maxima and sums, and the walk |
// barriers | stages, of which each has the rows of its tokens, keys and then values where these are apart, and their
// rope rows. Sizes are in bytes.
template <int DV, Kind KIND, int NT> struct Memory {
	static constexpr int KS = DV / 16, ROPE = KIND == LATENT ? kRopeColumns : 0; // steps of 16 along the key, but for a latent's rope columns
	static constexpr int QSTRIDE = (DV + ROPE + 8) * 2;                        // of a query; an odd number of 16-byte vectors, so that ldmatrix meets no bank twice
	static constexpr int MSTRIDE = DV + 4;                                     // floats of a row of the merge
	static constexpr int HEAD = QSTRIDE > MSTRIDE * 4 ? QSTRIDE : MSTRIDE * 4; // of a row of either
	static constexpr int WARP = 64 * NT, WALK = 64, BARRIERS = 8 * kMaxStages; // of a warp's maxima and sums; there are two rows of barriers
	static constexpr int ROWS = KIND == KV ? 2 : 1;                            // of a token
	static_assert(sizeof(Walk) <= WALK && WARP == 2 * sizeof(float) * 8 * NT);

	__host__ __device__ __forceinline__ static constexpr int tokenRow(int HC) { return (HC * DV + 8) * 2; }
	__host__ __device__ __forceinline__ static constexpr int ropeRow(int R) { return (R + 8) * 2; }
	__host__ __device__ __forceinline__ static constexpr int stage(int ropeAt, int TT, int rStride) { return ropeAt + (KIND == KV ? 0 : TT * rStride); }
	__host__ __device__ __forceinline__ static constexpr uint32_t stages(uint32_t empty) { return (empty + BARRIERS + 127) / 128 * 128; } // where they begin

	static constexpr int bytes(int warps, int warpRows, int HC, int TT, int R, int count) { // all of it, with so many stages
		return stages(HC * warpRows * NT * 8 * HEAD + warps * WARP + WALK + BARRIERS) + count * stage(TT * tokenRow(HC) * ROWS, TT, ropeRow(R));
	}
};

// A Place is what a warp works on: some rows of some kv heads, of which the block has rowsPad and HC, and tokens.
struct Place {
	int tid, lane, threads;     // of the threads that compute
	int HC, WT, TT;             // kv heads and tokens of the block, warps over tokens
	int rowsPad, rows, allRows; // query rows of the block with padding and without, and of a head
	int g0, r0, wh, wr, wt;     // the block's first head and row; the warp's head, rows and tokens
};

// copyTiles runs in the copying warpgroup: 8 lanes a row, 128 bytes at a time, four rows a warp, 16 a step. A chunk of
// tokens is 8 steps, 32 rows a warp: each lane finds the slot of one of them while the chunk before is copied, and
// hands it to the lanes that copy the row.
template <int DV, Kind KIND>
__device__ __forceinline__ void copyTiles(const DecodeArgs &p, Tiles &now, const Place &place, int R, int S, int kStride, int rStride,
	int ropeAt, int stageBytes, uint32_t full, uint32_t empty, uint32_t stage0) {
	const int tid = place.tid, lane = place.lane, g0 = place.g0, HC = place.HC, TT = place.TT;
	const int row = (tid >> 3) & 15, col = tid & 7, steps = HC * DV / 64;
	const bool rest = DV % 64 && HC * DV / 8 % 8 > col;
	const int own = lane >> 2 << 4 | (row & 12) | (lane & 3); // lane 4i+j: row j of the warp's four in step i
	const char *k = (const char *)(p.k + g0 * DV + col * 8), *v = (const char *)(p.v + g0 * DV + col * 8), *rope = (const char *)(p.kRope + col * 8);
	const uint32_t slotBytes = p.G * DV * 2, ropeBytes = R * 2;
	const uint32_t mine = stage0 + row * kStride + col * 16, mineRope = stage0 + ropeAt + row * rStride + col * 16;
	auto pageOf = [&]() -> int { // of the lane's token, past the end of the last one: masked later; an empty request has none
		return now.live && now.x.to > now.x.from ? p.pages[(long)now.x.b * p.maxPages + (min(now.at + own, now.x.to - 1) >> p.pageShift)] : 0;
	};
	int page = pageOf(), stage = 0, phase = 1;
	while (now.live) {
		const uint32_t slot = page << p.pageShift | (min(now.at + own, now.x.to - 1) & ((1 << p.pageShift) - 1)); // memory holds less than 2^31 tokens
		const int groups = now.x.to > now.x.from ? TT / 16 : 0;
		int left = min(now.x.to - now.at, kChunk), from = lane >> 3;
		if (now.at + left > now.x.length - p.T) step_wait();
		if (!(own & 7)) prefetchPages(p, now.x.b, now.at + 3 * kChunk + own); // 32 bytes of entries
		now.step(p, kChunk);
		page = pageOf();
		uint32_t next = __shfl_sync(~0u, slot, from);
#pragma unroll 1
		do {
			waitBarrier(empty + 8 * stage, phase);
			uint32_t dst = mine + stage * stageBytes, ropeDst = mineRope + stage * stageBytes;
#pragma unroll 1
			for (int i = 0; i < groups; i++, dst += 16 * kStride, ropeDst += 16 * rStride) {
				const uint64_t at = next;
				next = __shfl_sync(~0u, slot, from += 4);
				copyRow(dst, k + at * slotBytes, steps, rest);
				if constexpr (KIND == KV) copyRow(dst + TT * kStride, v + at * slotBytes, steps, rest);
				else if (col < R / 8) copyAsync16(ropeDst, rope + at * ropeBytes, true);
			}
			asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(full + 8 * stage) : "memory");
			if (++stage == S) stage = 0, phase ^= 1;
		} while ((left -= TT) > 0);
	}
	copyWait<0>();
}

// weigh brings the warps that share rows to one maximum: the weight of each one's output. Maxima and sums are left in
// shared memory.
template <int NT>
__device__ __forceinline__ void weigh(float (&weight)[NT][2], const float (&most)[NT][2], const float (&sum)[NT][2], const DecodeArgs &p,
	const Place &place, float *maxima, float *sums) {
	const int lane = place.lane, HC = place.HC, WT = place.WT, rowsPad = place.rowsPad, wh = place.wh, wr = place.wr, wt = place.wt;
	float *my = maxima + (wh * rowsPad + wr * NT * 8) + wt * HC * rowsPad, *mySum = my + (sums - maxima);
#pragma unroll
	for (int n = 0; n < NT; n++)
#pragma unroll
		for (int c = 0; c < 2; c++) {
			float l = sum[n][c];
			l += __shfl_xor_sync(~0u, l, 4);
			l += __shfl_xor_sync(~0u, l, 8);
			l += __shfl_xor_sync(~0u, l, 16);
			if (lane < 4) my[n * 8 + lane * 2 + c] = most[n][c], mySum[n * 8 + lane * 2 + c] = l;
		}
	blockSync(CONSUMERS, place.threads);
#pragma unroll
	for (int n = 0; n < NT; n++)
#pragma unroll
		for (int c = 0; c < 2; c++) {
			const float *at = maxima + (wh * rowsPad + wr * NT * 8) + n * 8 + (lane & 3) * 2 + c;
			float m = -CUDART_INF_F;
#pragma unroll 1
			for (int w = 0; w < WT; w++) m = fmaxf(m, at[w * HC * rowsPad]);
			weight[n][c] = most[n][c] == -CUDART_INF_F ? 0.f : fastExp2((most[n][c] - m) * p.scale);
		}
}

// addUp adds up the outputs of those warps in shared memory, in order.
template <int MSTRIDE, int KS, int NT>
__device__ __forceinline__ void addUp(const float (&o)[NT][KS][4], const float (&weight)[NT][2], const Place &place, float *merge) {
	const int lane = place.lane, threads = place.threads, WT = place.WT, rowsPad = place.rowsPad, wh = place.wh, wr = place.wr, wt = place.wt;
#pragma unroll 1
	for (int w = 0; w < WT; w++) {
		if (wt == w) {
			float *dst = merge + (wh * rowsPad + wr * NT * 8) * MSTRIDE;
#pragma unroll
			for (int n = 0; n < NT; n++)
#pragma unroll
				for (int k = 0; k < KS; k++)
#pragma unroll
					for (int i = 0; i < 4; i++) {
						float *at = dst + (n * 8 + (lane & 3) * 2 + (i & 1)) * MSTRIDE + k * 16 + (lane >> 2) + (i >> 1) * 8;
						const float v = o[n][k][i] * weight[n][i & 1];
						*at = w == 0 ? v : *at + v;
					}
		}
		blockSync(CONSUMERS, threads);
	}
}

// write stores the block's rows, whole or as a piece.
template <int DV, int MSTRIDE>
__device__ __forceinline__ void write(const DecodeArgs &p, const Span &x, const Place &place, const float *merge, const float *maxima, const float *sums) {
	const int tid = place.tid, threads = place.threads, HC = place.HC, WT = place.WT;
	const int rowsPad = place.rowsPad, rows = place.rows, allRows = place.allRows, g0 = place.g0, r0 = place.r0;
#pragma unroll 1
	for (int i = tid; i < HC * rows * (DV / 4); i += threads) {
		const int row = i / (DV / 4), col = i % (DV / 4) * 4, h = row / rows, r = row - h * rows;
		const float *at = maxima + h * rowsPad + r;
		float m = -CUDART_INF_F, l = 0.f;
#pragma unroll 1
		for (int w = 0; w < WT; w++) m = fmaxf(m, at[w * HC * rowsPad]);
#pragma unroll 1
		for (int w = 0; w < WT; w++) {
			const float mw = at[w * HC * rowsPad];
			if (mw != -CUDART_INF_F) l += at[w * HC * rowsPad + (sums - maxima)] * fastExp2((mw - m) * p.scale);
		}
		const float inv = l > 0.f ? 1.f / l : 0.f;
		float4 v = *(const float4 *)(merge + (h * rowsPad + r) * MSTRIDE + col);
		v.x *= inv, v.y *= inv, v.z *= inv, v.w *= inv;
		const float lse2 = l > 0.f ? m * p.scale + log2f(l) : -CUDART_INF_F;
		if (x.pieces == 1) {
			const long out = rowOffset(p, x.b, g0 + h, r0 + r);
			*(uint2 *)(p.out + out * DV + col) = uint2{packBF16(v.x, v.y), packBF16(v.z, v.w)};
			if (col == 0) p.lse[out] = lse2 * 0.69314718056f;
		} else {
			const long out = ((long)x.piece * p.G + g0 + h) * allRows + r0 + r;
			*(float4 *)(p.partial + out * DV + col) = v;
			if (col == 0) p.partialLSE[((long)(g0 + h) * allRows + r0 + r) * p.pieces + x.piece] = lse2;
		}
	}
}

} // namespace
