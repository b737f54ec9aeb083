// Decode attention on mma.sync, for every kind and for sm_80 on: the kernel of choice where a kv head has few query
// rows, because tokens lie on the M side of the products (16 a warp) and query rows on the N side, in steps of 8. A
// tile of tokens is loaded once for several kv heads (which share the rope columns and lie side by side in the cache),
// and each warp takes 16 tokens of one head and 8·NT rows. Scores: S [16 tokens, rows] = K · Qᵀ; output: Oᵀ [Dv, rows]
// += Vᵀ · P.
//
// What brings the tokens decides the speed; GTA with 8 heads, 128 requests of 8192 tokens on an H200, µs: all warps
// copying between their products 829; one thread a row by cp.async.bulk 1005 (28 ns a copy, however short); a warpgroup
// that copies one row a warp instruction, each with an address of its own, 1067; the same with 8 lanes a row, as below,
// 581.
//
// decode is cut into functions as far as that leaves its machine code as it was. Arrays of registers stay its own, and
// so do the rope columns of a latent: in functions they came to lie in other registers and to be loaded in another
// order.
#include "decode_mma.cuh"
#include "decode_mma_fp8.cuh"
#include <type_traits>

namespace {

__device__ __forceinline__ uint32_t transpose8x8(uint32_t x) {
	uint32_t y;
	asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
	return y;
}

// load brings the block's query rows into shared memory.
template <int QSTRIDE> __device__ __forceinline__ void load(const DecodeArgs &p, const Span &x, const Place &place, char *smem, int columns) {
	const int tid = place.tid, threads = place.threads, HC = place.HC, rowsPad = place.rowsPad, rows = place.rows, g0 = place.g0, r0 = place.r0;
#pragma unroll 2
	for (int i = tid; i < HC * rowsPad * columns / 8; i += threads) { // 16 bytes each
		const int vectors = columns / 8, row = i / vectors, c = (i - row * vectors) * 8, h = row / rowsPad, r = row - h * rowsPad;
		uint4 v = {0, 0, 0, 0};
		if (r < rows) v = __ldcg((const uint4 *)(p.q + rowOffset(p, x.b, g0 + h, r0 + r) * columns + c));
		*(uint4 *)(smem + row * QSTRIDE + c * 2) = v;
	}
	blockSync(CONSUMERS, threads);
}

// hold reads a warp's queries from shared memory into registers, in steps of 16 columns.
template <int QSTRIDE, int NT, int STEPS> __device__ __forceinline__ void hold(uint32_t (&qf)[NT][STEPS][2], uint32_t qAddr) {
#pragma unroll
	for (int n = 0; n < NT; n++)
#pragma unroll
		for (int k = 0; k < STEPS; k += 2) {
			uint32_t b[4];
			ldmatrix4(b, qAddr + n * 8 * QSTRIDE + k * 32);
			qf[n][k][0] = b[0], qf[n][k][1] = b[1], qf[n][k + 1][0] = b[2], qf[n][k + 1][1] = b[3];
		}
}

// clear begins a span's sums.
template <int KS, int NT> __device__ __forceinline__ void clear(float (&o)[NT][KS][4], float (&most)[NT][2], float (&sum)[NT][2]) {
#pragma unroll
	for (int n = 0; n < NT; n++) {
		most[n][0] = most[n][1] = -CUDART_INF_F;
		sum[n][0] = sum[n][1] = 0.f;
#pragma unroll
		for (int k = 0; k < KS; k++) o[n][k][0] = o[n][k][1] = o[n][k][2] = o[n][k][3] = 0.f;
	}
}

template <int NT, int U> __device__ __forceinline__ void clear(float (&s)[U][NT][2][4]) {
#pragma unroll
	for (int u = 0; u < U; u++)
#pragma unroll
		for (int n = 0; n < NT; n++)
#pragma unroll
			for (int i = 0; i < 8; i++) s[u][n][i >> 2][i & 3] = 0.f;
}

// keys adds what the key's columns give to the scores s [tokens, rows] = K · Qᵀ, in two chains of products: queries
// gives the fragments of two steps of columns, keyAddr where those of a key lie.
template <int KS, int NT, int U, class Queries, class Keys> __device__ __forceinline__ void keys(float (&s)[U][NT][2][4], Queries &queries, Keys &keyAddr) {
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
}

// mask takes out what rows row and row + 1 may not see of tokens token, token + 8.. on.
template <int U> __device__ __forceinline__ void mask(float (&v)[U][4], const DecodeArgs &p, const Span &x, int token, int row) {
#pragma unroll
	for (int c = 0; c < 2; c++) {
		const int limit = min(x.to, rowLimit(p, x.length, row + c));
#pragma unroll
		for (int u = 0; u < U; u++) {
			if (token + u * 16 >= limit) v[u][c] = -CUDART_INF_F;
			if (token + u * 16 + 8 >= limit) v[u][2 + c] = -CUDART_INF_F;
		}
	}
}

// softmax turns the scores v of two rows into weights, and gives the factors for what was summed before.
template <int U> __device__ __forceinline__ void softmax(float (&v)[U][4], float (&most)[2], float (&sum)[2], float (&factor)[2], const DecodeArgs &p) {
#pragma unroll
	for (int c = 0; c < 2; c++) {
		float m = fmaxf(v[0][c], v[0][2 + c]);
#pragma unroll
		for (int u = 1; u < U; u++) m = fmaxf(m, fmaxf(v[u][c], v[u][2 + c]));
		m = fmaxf(m, __shfl_xor_sync(~0u, m, 4));
		m = fmaxf(m, __shfl_xor_sync(~0u, m, 8));
		m = fmaxf(m, __shfl_xor_sync(~0u, m, 16));
		m = fmaxf(m, most[c]);
		const float ref = m == -CUDART_INF_F ? 0.f : m * p.scale;
		factor[c] = fastExp2(most[c] * p.scale - ref);
		most[c] = m;
		sum[c] *= factor[c];
#pragma unroll
		for (int u = 0; u < U; u++) {
			v[u][c] = fastExp2(v[u][c] * p.scale - ref);
			v[u][2 + c] = fastExp2(v[u][2 + c] * p.scale - ref);
			sum[c] = sum[c] + v[u][c] + v[u][2 + c];
		}
	}
}

// rescale brings two rows of the output to their new maxima.
template <int KS> __device__ __forceinline__ void rescale(float (&o)[KS][4], const float (&factor)[2]) {
	if (__any_sync(~0u, factor[0] != 1.f || factor[1] != 1.f)) {
#pragma unroll
		for (int k = 0; k < KS; k++) o[k][0] *= factor[0], o[k][1] *= factor[1], o[k][2] *= factor[0], o[k][3] *= factor[1];
	}
}

// values adds Vᵀ · w to the output, for a warp's tokens from addr on.
template <int KS, int NT, int U> __device__ __forceinline__ void values(float (&o)[NT][KS][4], const uint32_t (&w)[U][NT][2], uint32_t addr, int kStride) {
#pragma unroll
	for (int u = 0; u < U; u++)
#pragma unroll
		for (int k = 0; k < KS; k++) {
			uint32_t a[4];
			ldmatrix4Trans(a, addr + u * 16 * kStride + k * 32);
#pragma unroll
			for (int n = 0; n < NT; n++) mma16816(o[n][k], a, w[u][n][0], w[u][n][1]);
		}
}

template <int DV, Kind KIND, int NT, int U, class Cache> __device__ __forceinline__ void decode(const DecodeArgs &p, const Cache &cache) {
	using M = Memory<DV, KIND, NT>;
	constexpr int KS = M::KS, ROPE = M::ROPE;
	constexpr bool QREGS = (KS * 2 + ROPE / 8 + DV / 4) * NT <= 136; // query fragments stay in registers
	extern __shared__ __align__(128) char smem[];

	const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, threads = blockDim.x - 128, warps = threads >> 5; // the last warpgroup copies
	const int HC = p.heads, WR = p.warpRows, WT = warps / (WR * HC), TT = WT * U * 16, S = p.stages;
	const int rowsPad = WR * NT * 8, group = p.H / p.G, allRows = p.T * group;
	const int tile = blockIdx.x % p.tiles, part = blockIdx.x / p.tiles, headTiles = p.G / HC;
	const int g0 = tile % headTiles * HC, r0 = tile / headTiles * rowsPad, rows = min(rowsPad, allRows - r0);
	const int wr = warp % WR, wh = warp / WR % HC, wt = warp / (WR * HC);
	const int R = KIND == KV ? 0 : p.R, columns = KIND == LATENT ? DV + R : DV;

	const int kStride = M::tokenRow(HC), rStride = M::ropeRow(R);
	const int ropeAt = TT * kStride * M::ROWS, stageBytes = M::stage(ropeAt, TT, rStride);
	const int headBytes = HC * rowsPad * M::HEAD;
	float *merge = (float *)smem, *maxima = (float *)(smem + headBytes), *sums = maxima + warps * 8 * NT;
	Walk *shared = (Walk *)(sums + warps * 8 * NT);
	const uint32_t base = smemAddress(smem);
	const uint32_t full = base + headBytes + warps * M::WARP + M::WALK, empty = full + M::BARRIERS, stage0 = M::stages(empty);

	const Place place = {tid, lane, threads, HC, WT, TT, rowsPad, rows, allRows, g0, r0, wh, wr, wt};
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
		fewerRegisters<!Cache::FP8 ? 56 : NT == 4 ? 72 : 104>();
		if constexpr (Cache::FP8) {
			auto convert = [&](auto c) { convertTiles<DV, KIND, c.value, NT == 4 ? 2 : 4>(p, cache, now, place, R, S, kStride, rStride, ropeAt, stageBytes, full, empty, stage0); };
			if (HC * DV <= 128) convert(std::integral_constant<int, 1>());
			else if (HC * DV <= 256) convert(std::integral_constant<int, 2>());
			else if constexpr (DV > 64) convert(std::integral_constant<int, DV / 32>());
			return;
		}
#endif
		copyTiles<DV, KIND>(p, now, place, R, S, kStride, rStride, ropeAt, stageBytes, full, empty, stage0);
		return;
	}

#ifdef HOPPER
	moreRegisters<!Cache::FP8 ? 224 : NT == 4 ? 216 : 200>();
#endif
	float o[NT][KS][4], most[NT][2], sum[NT][2];
	uint32_t qf[QREGS ? NT : 1][QREGS ? KS + ROPE / 16 : 1][2];
	const uint32_t qAddr = base + (wh * rowsPad + wr * NT * 8 + (lane & 7)) * M::QSTRIDE + (lane >> 3) * 16;
	auto queries = [&](uint32_t (&b)[4], int n, int k) { // the fragments of steps k and k+1
		if constexpr (QREGS) b[0] = qf[n][k][0], b[1] = qf[n][k][1], b[2] = qf[n][k + 1][0], b[3] = qf[n][k + 1][1];
		else ldmatrix4(b, qAddr + n * 8 * M::QSTRIDE + k * 32);
	};

	int stage = 0, phase = 0;
	for (bool fresh = true; now.live;) {
		const Span &x = now.x;
		if (fresh) {
			fresh = false;
			step_wait();
			load<M::QSTRIDE>(p, x, place, smem, columns);
			if constexpr (QREGS) hold<M::QSTRIDE>(qf, qAddr);
			clear(o, most, sum);
		}

		waitBarrier(full + 8 * stage, phase);
		if (x.to > x.from) {
			const uint32_t tokens = stage0 + stage * stageBytes + wt * U * 16 * kStride + wh * DV * 2;
			const uint32_t kAddr = tokens + (lane & 15) * kStride + (lane >> 4) * 16;
			const uint32_t rAddr = stage0 + stage * stageBytes + ropeAt + (wt * U * 16 + (lane & 15)) * rStride + (lane >> 4) * 16;
			float s[U][NT][2][4];
			clear(s);
			auto keyAddr = [&](int u, int k) { // a tied key goes on in the rope row
				return KIND == TIED && k * 16 >= p.P ? rAddr + u * 16 * rStride + k * 32 - p.P * 2 : kAddr + u * 16 * kStride + k * 32;
			};
			keys<KS>(s, queries, keyAddr);
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
			uint32_t w[U][NT][2];
#pragma unroll
			for (int n = 0; n < NT; n++) {
				float v[U][4], factor[2];
#pragma unroll
				for (int u = 0; u < U; u++)
#pragma unroll
					for (int i = 0; i < 4; i++) v[u][i] = s[u][n][0][i] + s[u][n][1][i];
				if (masked) mask(v, p, x, token, r0 + (wr * NT + n) * 8 + (lane & 3) * 2);
				softmax(v, most[n], sum[n], factor, p);
#pragma unroll
				for (int u = 0; u < U; u++) {
					w[u][n][0] = transpose8x8(packBF16(v[u][0], v[u][1]));
					w[u][n][1] = transpose8x8(packBF16(v[u][2], v[u][3]));
				}
				rescale(o[n], factor);
			}

			const uint32_t vAddr = (KIND == KV ? tokens + TT * kStride : tokens) + ((lane & 7) + (lane >> 4) * 8) * kStride + ((lane >> 3) & 1) * 16;
			values(o, w, vAddr, kStride);
		}

		__syncwarp();
		if (lane == 0) arriveBarrier(empty + 8 * stage);
		if (++stage == S) stage = 0, phase ^= 1;

		const Span done = x;
		now.step(p, TT);
		if (now.live && now.at != now.x.from) continue;

		fresh = true; // the span is done
		float weight[NT][2];
		weigh(weight, most, sum, p, place, maxima, sums);
		addUp<M::MSTRIDE>(o, weight, place, merge);
		write<DV, M::MSTRIDE>(p, done, place, merge, maxima, sums);
		blockSync(CONSUMERS, threads); // before the next query rows replace the merge area, and before the piece counts as written
		if (done.pieces > 1 && tid == 0) arrive(p.arrived + (long)done.b * p.tiles + tile, done);
	}
	combine<DV>(p, *shared, tile, g0, HC, r0, rows, threads, CONSUMERS, smem);
}

} // namespace

#ifdef FP8_CACHE
#define DECODE(NAME, DV, KIND, NT, U) \
	extern "C" __global__ void __launch_bounds__(kMaxThreads, 1) NAME##_##DV##_n##NT##_fp8(const __grid_constant__ DecodeFP8Args p) { ON_HOPPER(decode<DV, KIND, NT, U>(p.decode, Scaled{p.kScale, p.vScale});) }
#else
#define DECODE(NAME, DV, KIND, NT, U) \
	extern "C" __global__ void __launch_bounds__(kMaxThreads, 1) NAME##_##DV##_n##NT(const __grid_constant__ DecodeArgs p) { decode<DV, KIND, NT, U>(p, Halves()); }
#endif

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
#ifndef FP8_CACHE // Hopper has other kernels for latents
DECODE(decode_latent, 128, LATENT, 1, 1)
DECODE(decode_latent, 128, LATENT, 2, 1)
DECODE(decode_latent, 192, LATENT, 1, 1)
DECODE(decode_latent, 192, LATENT, 2, 1)
DECODE(decode_latent, 256, LATENT, 1, 1)
DECODE(decode_latent, 256, LATENT, 2, 1)
DECODE(decode_latent, 384, LATENT, 1, 1)
DECODE(decode_latent, 512, LATENT, 1, 1)
#endif

// Bytes of shared memory where a block has 227 KB, as in decode_shape.go: by warps, those over rows, kv heads, tokens,
// R and stages.
static_assert(Memory<64, KV, 1>::bytes(8, 1, 4, 64, 0, 3) == 212352);
static_assert(Memory<64, KV, 2>::bytes(8, 1, 4, 64, 0, 3) == 221568);
static_assert(Memory<64, KV, 4>::bytes(8, 1, 4, 32, 0, 5) == 206208);
static_assert(Memory<96, KV, 1>::bytes(8, 1, 4, 32, 0, 4) == 214400);
static_assert(Memory<96, KV, 2>::bytes(8, 1, 4, 32, 0, 4) == 227712);
static_assert(Memory<96, KV, 4>::bytes(8, 1, 4, 32, 0, 3) == 204160);
static_assert(Memory<128, KV, 1>::bytes(8, 1, 4, 32, 0, 3) == 217472);
static_assert(Memory<128, KV, 2>::bytes(8, 1, 2, 64, 0, 3) == 221056);
static_assert(Memory<128, KV, 4>::bytes(8, 1, 1, 128, 0, 3) == 228224);
static_assert(Memory<64, TIED, 1>::bytes(8, 1, 4, 64, 48, 5) == 214400);
static_assert(Memory<64, TIED, 2>::bytes(8, 1, 4, 64, 48, 5) == 223616);
static_assert(Memory<64, TIED, 4>::bytes(8, 1, 4, 32, 48, 9) == 221568);
static_assert(Memory<96, TIED, 1>::bytes(8, 1, 4, 32, 48, 7) == 214400);
static_assert(Memory<96, TIED, 2>::bytes(8, 1, 4, 32, 48, 7) == 227712);
static_assert(Memory<96, TIED, 4>::bytes(8, 1, 4, 32, 48, 6) == 225664);
static_assert(Memory<128, TIED, 1>::bytes(8, 1, 4, 32, 48, 5) == 202112);
static_assert(Memory<128, TIED, 2>::bytes(8, 1, 4, 32, 48, 5) == 219520);
static_assert(Memory<128, TIED, 4>::bytes(8, 1, 4, 32, 48, 4) == 217472);
static_assert(Memory<128, LATENT, 1>::bytes(8, 1, 4, 32, 48, 5) == 202112);
static_assert(Memory<128, LATENT, 2>::bytes(8, 1, 4, 32, 48, 5) == 219520);
static_assert(Memory<192, LATENT, 1>::bytes(8, 1, 4, 32, 48, 3) == 185728);
static_assert(Memory<192, LATENT, 2>::bytes(8, 1, 4, 32, 48, 3) == 211328);
static_assert(Memory<256, LATENT, 1>::bytes(8, 1, 1, 128, 48, 2) == 173056);
static_assert(Memory<256, LATENT, 2>::bytes(8, 1, 1, 128, 48, 2) == 181888);
static_assert(Memory<384, LATENT, 1>::bytes(4, 1, 4, 16, 48, 3) == 203904);
static_assert(Memory<512, LATENT, 1>::bytes(4, 1, 1, 64, 48, 2) == 164608);
