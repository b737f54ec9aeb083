// Decode attention on mma.sync, for every kind and for sm_80 on: the kernel of choice where a kv head has few query rows,
// because tokens lie on the M side of the products (16 a warp) and query rows on the N side, in steps of 8. A tile of
// tokens is loaded once for several kv heads (which share the rope columns and lie side by side in the cache), and each
// warp takes 16 tokens of one head and 8·NT rows. Scores: S [16 tokens, rows] = K · Qᵀ; output: Oᵀ [Dv, rows] += Vᵀ · P.
//
// What brings the tokens decides the speed; GTA with 8 heads, 128 requests of 8192 tokens on an H200, µs: all warps copying
// between their products 829; one thread a row by cp.async.bulk 1005 (28 ns a copy, however short); a warpgroup that
// copies one row a warp instruction, each with an address of its own, 1067; the same with 8 lanes a row, as below, 581.
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

// copyRow copies, with 8 lanes, each from its own 16 bytes on, a row of steps · 128 bytes and, where `rest`, 16 bytes a lane
// more. Its loops stay loops: unrolled for every length and eight rows, the copying warps waited for their own instructions.
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

__device__ __forceinline__ uint32_t transpose8x8(uint32_t x) {
	uint32_t y;
	asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
	return y;
}

template <int DV, Kind KIND, int NT, int U> __device__ __forceinline__ void decode(const DecodeArgs &p) {
	constexpr int KS = DV / 16, ROPE = KIND == LATENT ? kRopeColumns : 0; // steps of 16 along the key, but for a latent's rope columns
	constexpr int QSTRIDE = (DV + ROPE + 8) * 2;                      // bytes; an odd number of 16-byte vectors, so that ldmatrix meets no bank twice
	constexpr int MSTRIDE = DV + 4;                                   // floats of a row of the merge area
	constexpr bool QREGS = (KS * 2 + ROPE / 8 + DV / 4) * NT <= 136;  // query fragments stay in registers
	extern __shared__ __align__(128) char smem[];

	const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, threads = blockDim.x - 128, warps = threads >> 5; // the last warpgroup copies
	const int HC = p.heads, WR = p.warpRows, WT = warps / (WR * HC), TT = WT * U * 16, S = p.stages;
	const int rowsPad = WR * NT * 8, group = p.H / p.G, allRows = p.T * group;
	const int tile = blockIdx.x % p.tiles, part = blockIdx.x / p.tiles, headTiles = p.G / HC;
	const int g0 = tile % headTiles * HC, r0 = tile / headTiles * rowsPad, rows = min(rowsPad, allRows - r0);
	const int wr = warp % WR, wh = warp / WR % HC, wt = warp / (WR * HC);
	const int R = KIND == KV ? 0 : p.R, columns = KIND == LATENT ? DV + R : DV;

	const int kStride = (HC * DV + 8) * 2, rStride = (R + 8) * 2;
	const int ropeAt = TT * kStride * (KIND == KV ? 2 : 1), stageBytes = ropeAt + (KIND == KV ? 0 : TT * rStride);
	// shared memory: query rows, later the merge | running maxima and sums | barriers | stages
	const int headBytes = HC * rowsPad * max(QSTRIDE, MSTRIDE * 4);
	float *merge = (float *)smem, *maxima = (float *)(smem + headBytes), *sums = maxima + warps * 8 * NT;
	Walk *shared = (Walk *)(sums + warps * 8 * NT);
	const uint32_t base = smemAddress(smem);
	const uint32_t full = base + headBytes + warps * 64 * NT + 64, empty = full + 8 * kMaxStages, stage0 = (empty + 8 * kMaxStages + 127) / 128 * 128;

	step_begin();
	if (warp == 0) findWalk(p, part, shared);
	if (tid == 0)
#pragma unroll 1
		for (int s = 0; s < S; s++) {
			initBarrier(full + 8 * s, 128);
			initBarrier(empty + 8 * s, warps);
		}
	__syncthreads();
	Tiles now;
	now.start(p, *shared);

	if (warp >= warps) { // copies
#ifdef HOPPER
		fewerRegisters<56>();
#endif
		// 8 lanes a row, 128 bytes at a time, four rows a warp, 16 a step. A chunk of tokens is 8 steps, 32 rows a warp: each lane
		// finds the slot of one of them while the chunk before is copied, and hands it to the lanes that copy the row.
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
		return;
	}

#ifdef HOPPER
	moreRegisters<224>();
#endif
	float o[NT][KS][4], most[NT][2], sum[NT][2];
	uint32_t qf[QREGS ? NT : 1][QREGS ? KS + ROPE / 16 : 1][2];
	const uint32_t qAddr = base + (wh * rowsPad + wr * NT * 8 + (lane & 7)) * QSTRIDE + (lane >> 3) * 16;
	auto queries = [&](uint32_t (&b)[4], int n, int k) { // the fragments of steps k and k+1
		if constexpr (QREGS) b[0] = qf[n][k][0], b[1] = qf[n][k][1], b[2] = qf[n][k + 1][0], b[3] = qf[n][k + 1][1];
		else ldmatrix4(b, qAddr + n * 8 * QSTRIDE + k * 32);
	};

	int stage = 0, phase = 0;
	for (bool fresh = true; now.live;) {
		const Span &x = now.x;
		if (fresh) {
			fresh = false;
			step_wait();
#pragma unroll 2
			for (int i = tid; i < HC * rowsPad * columns / 8; i += threads) { // 16 bytes each
				const int vectors = columns / 8, row = i / vectors, c = (i - row * vectors) * 8, h = row / rowsPad, r = row - h * rowsPad;
				uint4 v = {0, 0, 0, 0};
				if (r < rows) v = __ldcg((const uint4 *)(p.q + rowOffset(p, x.b, g0 + h, r0 + r) * columns + c));
				*(uint4 *)(smem + row * QSTRIDE + c * 2) = v;
			}
			blockSync(CONSUMERS, threads);
			if constexpr (QREGS)
#pragma unroll
				for (int n = 0; n < NT; n++)
#pragma unroll
					for (int k = 0; k < KS + ROPE / 16; k += 2) {
						uint32_t b[4];
						ldmatrix4(b, qAddr + n * 8 * QSTRIDE + k * 32);
						qf[n][k][0] = b[0], qf[n][k][1] = b[1], qf[n][k + 1][0] = b[2], qf[n][k + 1][1] = b[3];
					}
#pragma unroll
			for (int n = 0; n < NT; n++) {
				most[n][0] = most[n][1] = -CUDART_INF_F;
				sum[n][0] = sum[n][1] = 0.f;
#pragma unroll
				for (int k = 0; k < KS; k++) o[n][k][0] = o[n][k][1] = o[n][k][2] = o[n][k][3] = 0.f;
			}
		}

		waitBarrier(full + 8 * stage, phase);
		if (x.to > x.from) {
		const uint32_t kTile = stage0 + stage * stageBytes + wt * U * 16 * kStride + wh * DV * 2;
		const uint32_t kAddr = kTile + (lane & 15) * kStride + (lane >> 4) * 16;
		const uint32_t rAddr = stage0 + stage * stageBytes + ropeAt + (wt * U * 16 + (lane & 15)) * rStride + (lane >> 4) * 16;
		float s[U][NT][2][4]; // two chains of products, added below
#pragma unroll
		for (int u = 0; u < U; u++)
#pragma unroll
			for (int n = 0; n < NT; n++)
#pragma unroll
				for (int i = 0; i < 8; i++) s[u][n][i >> 2][i & 3] = 0.f;
		auto keyAddr = [&](int u, int k) { // a tied key goes on in the rope row
			return KIND == TIED && k * 16 >= p.P ? rAddr + u * 16 * rStride + k * 32 - p.P * 2 : kAddr + u * 16 * kStride + k * 32;
		};
#pragma unroll
		for (int k = 0; k < KS; k += 2)
#pragma unroll
			for (int u = 0; u < U; u++) {
				uint32_t a0[4], a1[4];
				ldmatrix4(a0, keyAddr(u, k));
				ldmatrix4(a1, keyAddr(u, k + 1));
#pragma unroll
				for (int n = 0; n < NT; n++) {
					uint32_t b[4];
					queries(b, n, k);
					mma16816(s[u][n][0], a0, b[0], b[1]);
					mma16816(s[u][n][1], a1, b[2], b[3]);
				}
			}
		if constexpr (ROPE > 0) {
#pragma unroll
			for (int k = 0; k < ROPE / 16; k += 2) {
				if (k * 16 >= R) break;
#pragma unroll
				for (int u = 0; u < U; u++) {
					uint32_t a0[4], a1[4];
					ldmatrix4(a0, rAddr + u * 16 * rStride + k * 32);
					if ((k + 1) * 16 < R) ldmatrix4(a1, rAddr + u * 16 * rStride + k * 32 + 32);
#pragma unroll
					for (int n = 0; n < NT; n++) {
						uint32_t b[4];
						queries(b, n, KS + k);
						mma16816(s[u][n][0], a0, b[0], b[1]);
						if ((k + 1) * 16 < R) mma16816(s[u][n][1], a1, b[2], b[3]);
					}
				}
			}
		}

		const int token = now.at + wt * U * 16 + (lane >> 2); // and 8, 16.. on
		const bool masked = now.at + TT > min(x.to, x.length - p.T + 1);
		uint32_t pf[U][NT][2];
#pragma unroll
		for (int n = 0; n < NT; n++) {
			float v[U][4], factor[2];
#pragma unroll
			for (int u = 0; u < U; u++)
#pragma unroll
				for (int i = 0; i < 4; i++) v[u][i] = s[u][n][0][i] + s[u][n][1][i];
			if (masked) {
#pragma unroll
				for (int c = 0; c < 2; c++) {
					const int limit = min(x.to, rowLimit(p, x.length, r0 + (wr * NT + n) * 8 + (lane & 3) * 2 + c));
#pragma unroll
					for (int u = 0; u < U; u++) {
						if (token + u * 16 >= limit) v[u][c] = -CUDART_INF_F;
						if (token + u * 16 + 8 >= limit) v[u][2 + c] = -CUDART_INF_F;
					}
				}
			}
#pragma unroll
			for (int c = 0; c < 2; c++) {
				float m = fmaxf(v[0][c], v[0][2 + c]);
#pragma unroll
				for (int u = 1; u < U; u++) m = fmaxf(m, fmaxf(v[u][c], v[u][2 + c]));
				m = fmaxf(m, __shfl_xor_sync(~0u, m, 4));
				m = fmaxf(m, __shfl_xor_sync(~0u, m, 8));
				m = fmaxf(m, __shfl_xor_sync(~0u, m, 16));
				m = fmaxf(m, most[n][c]);
				const float ref = m == -CUDART_INF_F ? 0.f : m * p.scale;
				factor[c] = fastExp2(most[n][c] * p.scale - ref);
				most[n][c] = m;
				sum[n][c] *= factor[c];
#pragma unroll
				for (int u = 0; u < U; u++) {
					v[u][c] = fastExp2(v[u][c] * p.scale - ref);
					v[u][2 + c] = fastExp2(v[u][2 + c] * p.scale - ref);
					sum[n][c] = sum[n][c] + v[u][c] + v[u][2 + c];
				}
			}
#pragma unroll
			for (int u = 0; u < U; u++) {
				pf[u][n][0] = transpose8x8(packBF16(v[u][0], v[u][1]));
				pf[u][n][1] = transpose8x8(packBF16(v[u][2], v[u][3]));
			}
			if (__any_sync(~0u, factor[0] != 1.f || factor[1] != 1.f)) {
#pragma unroll
				for (int k = 0; k < KS; k++) o[n][k][0] *= factor[0], o[n][k][1] *= factor[1], o[n][k][2] *= factor[0], o[n][k][3] *= factor[1];
			}
		}

		const uint32_t vAddr = (KIND == KV ? kTile + TT * kStride : kTile) + ((lane & 7) + (lane >> 4) * 8) * kStride + ((lane >> 3) & 1) * 16;
#pragma unroll
		for (int u = 0; u < U; u++)
#pragma unroll
			for (int k = 0; k < KS; k++) {
				uint32_t a[4];
				ldmatrix4Trans(a, vAddr + u * 16 * kStride + k * 32);
#pragma unroll
				for (int n = 0; n < NT; n++) mma16816(o[n][k], a, pf[u][n][0], pf[u][n][1]);
			}
		}

		__syncwarp();
		if (lane == 0) arriveBarrier(empty + 8 * stage);
		if (++stage == S) stage = 0, phase ^= 1;

		const Span done = x;
		now.step(p, TT);
		if (now.live && now.at != now.x.from) continue;

		// the span is done: bring the warps of one (head, rows) to one maximum and add them up in shared memory, in order
		fresh = true;
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
		blockSync(CONSUMERS, threads);
		float weight[NT][2];
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
			if (done.pieces == 1) {
				const long out = rowOffset(p, done.b, g0 + h, r0 + r);
				*(uint2 *)(p.out + out * DV + col) = uint2{packBF16(v.x, v.y), packBF16(v.z, v.w)};
				if (col == 0) p.lse[out] = lse2 * 0.69314718056f;
			} else {
				const long out = ((long)done.piece * p.G + g0 + h) * allRows + r0 + r;
				*(float4 *)(p.partial + out * DV + col) = v;
				if (col == 0) p.partialLSE[((long)(g0 + h) * allRows + r0 + r) * p.pieces + done.piece] = lse2;
			}
		}
		blockSync(CONSUMERS, threads); // before the next query rows replace the merge area, and before the piece counts as written
		if (done.pieces > 1 && tid == 0) arrive(p.arrived + (long)done.b * p.tiles + tile, done);
	}
	combine<DV>(p, *shared, tile, g0, HC, r0, rows, threads, CONSUMERS, smem);
}

} // namespace

#define DECODE(NAME, DV, KIND, NT, U) \
	extern "C" __global__ void __launch_bounds__(kMaxThreads, 1) NAME##_##DV##_n##NT(const __grid_constant__ DecodeArgs p) { decode<DV, KIND, NT, U>(p); }

DECODE(decode_kv, 64, KV, 1, 2)
DECODE(decode_kv, 64, KV, 2, 2)
DECODE(decode_kv, 64, KV, 4, 1)
DECODE(decode_kv, 96, KV, 1, 1)
DECODE(decode_kv, 96, KV, 2, 1)
DECODE(decode_kv, 96, KV, 4, 1)
DECODE(decode_kv, 128, KV, 1, 1)
DECODE(decode_kv, 128, KV, 2, 1)
DECODE(decode_kv, 128, KV, 4, 1)
DECODE(decode_tied, 64, TIED, 1, 2)
DECODE(decode_tied, 64, TIED, 2, 2)
DECODE(decode_tied, 64, TIED, 4, 1)
DECODE(decode_tied, 96, TIED, 1, 1)
DECODE(decode_tied, 96, TIED, 2, 1)
DECODE(decode_tied, 96, TIED, 4, 1)
DECODE(decode_tied, 128, TIED, 1, 1)
DECODE(decode_tied, 128, TIED, 2, 1)
DECODE(decode_tied, 128, TIED, 4, 1)
DECODE(decode_latent, 128, LATENT, 1, 1)
DECODE(decode_latent, 128, LATENT, 2, 1)
DECODE(decode_latent, 192, LATENT, 1, 1)
DECODE(decode_latent, 192, LATENT, 2, 1)
DECODE(decode_latent, 256, LATENT, 1, 1)
DECODE(decode_latent, 256, LATENT, 2, 1)
DECODE(decode_latent, 384, LATENT, 1, 1)
DECODE(decode_latent, 512, LATENT, 1, 1)
