// decode_latent for latents of up to 256 columns, whose output tile of 64 rows fits the registers of one warpgroup. Up
// to 64 query rows a latent head (one tile): the two warpgroups take alternate token blocks, each with an output of its
// own, merged when the request ends; the softmax of one runs under the products of the other. Above (a pair of tiles):
// both take the same blocks for 64 rows each, and each starts the next block's scores before it multiplies this one's
// values.
#include "decode_latent.cuh"
#include "decode_latent_fp8.cuh"
#include <type_traits>

#ifdef HOPPER
namespace {

constexpr int kFixedBytes = 2048; // at a place that does not depend on the number of stages: no register holds it

// Bytes of shared memory, as in decode_shape.go: up to 1,023 to begin on a tile's border.
template <int L, bool PAIR> constexpr int splitBytes(int stages, bool scattered) {
	return 1024 + kFixedBytes + ((PAIR ? 2 : 1) + stages) * (L / 64 + 1) * kSlice + (scattered ? 2 * kAhead * kAheadBytes : 0);
}
static_assert(splitBytes<128, false>(8, false) == 224256);
static_assert(splitBytes<128, false>(8, true) == 228864);
static_assert(splitBytes<128, true>(7, false) == 224256);
static_assert(splitBytes<192, false>(5, true) == 204288);
static_assert(splitBytes<192, false>(6, false) == 232448);
static_assert(splitBytes<192, true>(5, false) == 232448);
static_assert(splitBytes<256, false>(4, false) == 207872);
static_assert(splitBytes<256, false>(4, true) == 212480);
static_assert(splitBytes<256, true>(3, false) == 207872);
static_assert(64 + 64 + 32 + 2 * 64 * 2 * sizeof(float) <= kFixedBytes && sizeof(Walk) <= 32); // full | empty | walk | exchange

template <int L, bool PAIR, class Cache> __device__ __forceinline__ void decodeSplit(const DecodeArgs &p, const Cache &cache) {
	constexpr int SLICES = L / 64, N = L / 2, TILES = PAIR ? 2 : 1, QBYTES = (SLICES + 1) * kSlice;
	extern __shared__ char raw[];
	const uint32_t base = (smemAddress(raw) + 1023) & ~1023u;
	char *smem = raw + (base - smemAddress(raw));
	// queries | barriers | walk | maxima and sums of the two warpgroups [2][64][2] | stages | page numbers to come
	const uint32_t q = base, full = base + TILES * QBYTES, empty = full + 64, stage0 = full + kFixedBytes;
	Walk *shared = (Walk *)(smem + (empty - base) + 64);
	float *exchange = (float *)((char *)shared + 32);

	const int tile = blockIdx.x % p.tiles, part = blockIdx.x / p.tiles, g = tile % p.G, r0 = tile / p.G * (TILES * 64);
	const int rows = min(TILES * 64, p.T * (p.H / p.G) - r0);
	const int tid = threadIdx.x, wg = warpgroup(), lane = tid & 31;
	step_begin();
	if (tid < 32) findWalk(p, part, shared);
	if (tid == 0) {
#pragma unroll 1
		for (int s = 0; s < p.stages; s++) {
			barrierInit(full + s * 8, 128);
			barrierInit(empty + s * 8, PAIR ? 8 : 4);
		}
		barrierInitFence();
	}
	clearRope<SLICES>(p, smem, TILES);
	clearRope<SLICES>(p, smem + TILES * QBYTES + kFixedBytes, p.stages);
	proxyFence();
	__syncthreads();

	if (wg == 2) {
		fewerRegisters<Cache::FP8 ? (PAIR ? 72 : 104) : PAIR ? 40 : 56>();
		if constexpr (Cache::FP8) convert<SLICES, PAIR ? 2 : 4>(p, cache, *shared, g, p.stages, stage0, full, empty);
		else if (!PAIR && scattered(p)) produceScattered<SLICES>(p, *shared, g, p.stages, stage0, full, empty, stage0 + p.stages * QBYTES);
		else produce<SLICES>(p, *shared, g, p.stages, stage0, full, empty);
		return;
	}
	moreRegisters<Cache::FP8 ? (PAIR ? 216 : 200) : PAIR ? 232 : 224>();
	const int row = (PAIR ? wg * 64 : 0) + (tid >> 5 & 3) * 16 + (lane >> 2);
	const uint32_t myQ = swizzled(q + (PAIR ? wg * QBYTES : 0));
	Walk spans = *shared;
	Span x;
	Softmax softmax;
	float o[N], s[32], factor[2];
	uint32_t w[4][4];
	int stage = 0, phase = 0;
	auto advance = [&]() { if (++stage == p.stages) stage = 0, phase ^= 1; };
	while (spans.next(p, x)) {
		loadQueries<SLICES>(p, x.b, g, r0, rows, TILES, q);
		softmax.start();
#pragma unroll
		for (int i = 0; i < N; i++) o[i] = 0.f;
		const int clear = min(x.to, x.length - p.T + 1); // blocks that end here or before need no mask
		auto ready = [&]() {
			barrierWait(full + stage * 8, phase);
			proxyFence();
			return swizzled(stage0 + stage * QBYTES);
		};
		auto release = [&](int stage) { if (lane == 0) barrierArrive(empty + stage * 8); };
		if constexpr (PAIR) {
			scores<SLICES>(s, myQ, ready());
			wgmmaWait<0>();
			softmax.step<true>(p, s, factor, x, r0 + row, x.from);
			packWeights(s, w);
			int used = stage, at = x.from + kBlockTokens; // used: the stage whose values are still to be multiplied
			advance();
			// The compiler draws the second wait up to the first branch, hence two loops, a branch where it belongs,
			// and stores that never happen: they keep the softmax ahead of the branch and its hands off the registers
			// of w.
			auto next = [&](auto masked) {
				uint32_t a = myQ; // else the compiler keeps a descriptor for each product in registers that it then lacks
				asm volatile("" : "+r"(a));
				scores<SLICES>(s, a, ready());
				values(o, w, swizzled(stage0 + used * QBYTES, kSlice));
				wgmmaWait<1>();
				softmax.step<masked.value>(p, s, factor, x, r0 + row, at);
				if (p.T == 0) // never
#pragma unroll
					for (int i = 0; i < 32; i++) p.lse[i] = s[i] + __uint_as_float(w[i >> 3][i >> 1 & 3]);
				wgmmaWait<0>();
				release(used);
				used = stage;
				rescale(o, factor);
				packWeights(s, w);
				advance();
				at += kBlockTokens;
			};
			while (at + kBlockTokens <= clear) next(std::false_type());
			while (at < x.to) next(std::true_type());
			values(o, w, swizzled(stage0 + used * QBYTES, kSlice));
			wgmmaWait<0>();
			release(used);
		} else {
			int at = x.from, turn = wg; // a span's first block is the first warpgroup's, so that sums do not depend on the spans before
			do {
				if (turn == 0) {
					scores<SLICES>(s, myQ, ready());
					wgmmaWait<0>();
					if (at + kBlockTokens > clear) softmax.step<true>(p, s, factor, x, r0 + row, at);
					else softmax.step<false>(p, s, factor, x, r0 + row, at);
					rescale(o, factor);
					packWeights(s, w);
					values(o, w, swizzled(stage0 + stage * QBYTES, kSlice));
					wgmmaWait<0>();
					release(stage);
				}
				advance();
				turn ^= 1;
				at += kBlockTokens;
			} while (at < x.to);
		}
		softmax.finish();

		if (PAIR) {
			float inv[2];
#pragma unroll
			for (int i = 0; i < 2; i++) {
				inv[i] = softmax.sum[i] > 0.f ? 1.f / softmax.sum[i] : 0.f;
				if ((lane & 3) == 0) writeLSE(p, x, g, r0, rows, row + 8 * i, softmax.sum[i] > 0.f ? softmax.most[i] * p.scale + log2f(softmax.sum[i]) : -CUDART_INF_F);
			}
#pragma unroll
			for (int i = 0; i < N; i++) o[i] *= inv[i >> 1 & 1];
			writeRows<L, 0, N>(p, x, g, r0, rows, row, 0, o);
		} else { // each warpgroup hands one half of its columns to the other, through the query rows' place
			if ((lane & 3) == 0)
#pragma unroll
				for (int i = 0; i < 2; i++) *(float2 *)(exchange + (wg * 64 + row + 8 * i) * 2) = float2{softmax.most[i], softmax.sum[i]};
			blockSync(BAR_CONSUMERS, kConsumers);
			float weight[2];
#pragma unroll
			for (int i = 0; i < 2; i++) {
				const float2 other = *(const float2 *)(exchange + ((wg ^ 1) * 64 + row + 8 * i) * 2);
				const float m = fmaxf(softmax.most[i], other.x), ref = m == -CUDART_INF_F ? 0.f : m * p.scale;
				const float mine = fastExp2(softmax.most[i] * p.scale - ref), theirs = fastExp2(other.x * p.scale - ref);
				const float a = softmax.sum[i] * mine, b = other.y * theirs, l = wg == 0 ? a + b : b + a;
				weight[i] = l > 0.f ? mine / l : 0.f;
				if (wg == 0 && (lane & 3) == 0) writeLSE(p, x, g, r0, rows, row + 8 * i, l > 0.f ? ref + log2f(l) : -CUDART_INF_F);
			}
#pragma unroll
			for (int i = 0; i < N; i++) o[i] *= weight[i >> 1 & 1];
			float *mine = (float *)smem + (tid & 127);
			if (wg == 1)
#pragma unroll
				for (int i = 0; i < N / 2; i++) mine[i * 128] = o[i];
			blockSync(BAR_CONSUMERS, kConsumers);
			if (wg == 0)
#pragma unroll
				for (int i = 0; i < N / 2; i++) o[i] += mine[i * 128];
			blockSync(BAR_CONSUMERS, kConsumers);
			if (wg == 0) {
#pragma unroll
				for (int i = 0; i < N / 2; i++) mine[i * 128] = o[N / 2 + i];
				writeRows<L, 0, N / 2>(p, x, g, r0, rows, row, 0, o);
			}
			blockSync(BAR_CONSUMERS, kConsumers);
			if (wg == 1) {
#pragma unroll
				for (int i = 0; i < N / 2; i++) o[N / 2 + i] += mine[i * 128];
				writeRows<L, N / 2, N / 2>(p, x, g, r0, rows, row, L / 2, o);
			}
		}
		blockSync(BAR_CONSUMERS, kConsumers); // before the next query rows, and before the piece counts as written
		if (x.pieces > 1 && tid == 0) arrive(p.arrived + (long)x.b * p.tiles + tile, x);
	}
	combine<L>(p, *shared, tile, g, 1, r0, rows, kConsumers, BAR_CONSUMERS, raw);
}

} // namespace

#ifdef FP8_CACHE
#define DECODE_SPLIT(L) \
	extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1) decode_latent_##L##_split_fp8(const __grid_constant__ DecodeFP8Args p) { decodeSplit<L, false>(p.decode, Scaled{p.kScale, p.vScale}); } \
	extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1) decode_latent_##L##_pair_fp8(const __grid_constant__ DecodeFP8Args p) { decodeSplit<L, true>(p.decode, Scaled{p.kScale, p.vScale}); }
#else
#define DECODE_SPLIT(L) \
	extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1) decode_latent_##L##_split(const __grid_constant__ DecodeArgs p) { decodeSplit<L, false>(p, Halves()); } \
	extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1) decode_latent_##L##_pair(const __grid_constant__ DecodeArgs p) { decodeSplit<L, true>(p, Halves()); }
#endif

DECODE_SPLIT(128)
DECODE_SPLIT(192)
DECODE_SPLIT(256)
#endif
