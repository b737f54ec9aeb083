// decode_latent for latents of 384 and 512 columns and up to 64 query rows: the output of 64 rows needs two warpgroups,
// one for each half of its columns. The first computes scores and weights and hands the weights over through shared
// memory, under two barriers on which every thread arrives: racecheck takes no account of __syncwarp ahead of one
// thread's arrival.
#include "decode_latent.cuh"
#include "decode_latent_fp8.cuh"

#ifdef HOPPER
namespace {

// Bytes of shared memory, as in decode_shape.go: up to 1,023 to begin on a tile's border; weights, barriers, walk,
// factors and sums.
template <int L> constexpr int wideBytes(int stages) { return 1024 + (1 + stages) * (L / 64 + 1) * kSlice + kSlice + 256 + 64 + 2 * 64 * 4; }
static_assert(wideBytes<384>(2) == 182080);
static_assert(wideBytes<512>(2) == 231232);
static_assert(32 + 32 + 8 + 8 <= 256 && sizeof(Walk) <= 64); // full | empty | handed | taken

template <int L, class Cache> __device__ __forceinline__ void decodeWide(const DecodeArgs &p, const Cache &cache) {
	constexpr int SLICES = L / 64, N = L / 4, QBYTES = (SLICES + 1) * kSlice;
	extern __shared__ char raw[];
	const uint32_t base = (smemAddress(raw) + 1023) & ~1023u;
	char *smem = raw + (base - smemAddress(raw));
	// queries | stages | weights [64, 64] | barriers | walk | factors [64] | sums [64]
	const uint32_t q = base, stage0 = q + QBYTES, weights = stage0 + p.stages * QBYTES, full = weights + kSlice, empty = full + 32;
	const uint32_t handed = empty + 32, taken = handed + 8;
	Walk *shared = (Walk *)(smem + (taken - base) + 8);
	float *factors = (float *)(shared + 1), *sums = factors + 64;

	const int tile = blockIdx.x % p.tiles, part = blockIdx.x / p.tiles, g = tile % p.G, r0 = tile / p.G * 64;
	const int rows = min(64, p.T * (p.H / p.G) - r0);
	const int tid = threadIdx.x, wg = warpgroup(), lane = tid & 31;
	step_begin();
	if (tid < 32) findWalk(p, part, shared);
	if (tid == 0) {
#pragma unroll 1
		for (int s = 0; s < p.stages; s++) {
			barrierInit(full + s * 8, 128);
			barrierInit(empty + s * 8, 8);
		}
		barrierInit(handed, 128);
		barrierInit(taken, 128);
		barrierInitFence();
	}
	clearRope<SLICES>(p, smem, 1 + p.stages);
	proxyFence();
	__syncthreads();

	if (wg == 2) {
		fewerRegisters<Cache::FP8 ? 104 : 40>();
		if constexpr (Cache::FP8) convert<SLICES, 2>(p, cache, *shared, g, p.stages, stage0, full, empty);
		else produce<SLICES>(p, *shared, g, p.stages, stage0, full, empty);
		return;
	}
	moreRegisters<Cache::FP8 ? 200 : 232>();
	const int row = (tid >> 5 & 3) * 16 + (lane >> 2);
	Walk spans = *shared;
	Span x;
	float o[N];
	int stage = 0, phase = 0, hand = 0; // hand: the phase of the next weights
	while (spans.next(p, x)) {
		loadQueries<SLICES>(p, x.b, g, r0, rows, 1, q);
#pragma unroll
		for (int i = 0; i < N; i++) o[i] = 0.f;
		if (wg == 0) {
			Softmax softmax;
			softmax.start();
			const int clear = min(x.to, x.length - p.T + 1);
			float s[32], factor[2];
			uint32_t w[4][4];
			auto start = [&]() { // the scores of the block in the stage at hand
				barrierWait(full + stage * 8, phase);
				proxyFence();
				scores<SLICES>(s, swizzled(q), swizzled(stage0 + stage * QBYTES));
			};
			auto weigh = [&](auto masked, int at) { // turns scores into weights and hands them over
				softmax.step<masked.value>(p, s, factor, x, r0 + row, at);
				packWeights(s, w);
				barrierWait(taken, hand ^ 1);
				char *dst = smem + (weights - base) + row * 128 + (lane & 3) * 4;
#pragma unroll
				for (int j = 0; j < 8; j++) { // columns 8j.. of rows row and row+8
					*(uint32_t *)(dst + ((j ^ (row & 7)) << 4)) = w[j >> 1][(j & 1) * 2];
					*(uint32_t *)(dst + 1024 + ((j ^ (row & 7)) << 4)) = w[j >> 1][(j & 1) * 2 + 1];
				}
				if ((lane & 3) == 0) factors[row] = factor[0], factors[row + 8] = factor[1];
				proxyFence();
				barrierArrive(handed);
				hand ^= 1;
				rescale(o, factor);
			};
			auto release = [&](int stage) { if (lane == 0) barrierArrive(empty + stage * 8); };
			int at = x.from;
			// Issuing the next scores ahead of the wait for the values lost 12%: they delay the other's values and the
			// release.
			auto next = [&](auto masked) {
				start();
				wgmmaWait<0>();
				weigh(masked, at);
				values(o, w, swizzled(stage0 + stage * QBYTES, kSlice));
				wgmmaWait<0>();
				release(stage);
				if (++stage == p.stages) stage = 0, phase ^= 1;
				at += kBlockTokens;
			};
			while (at + kBlockTokens <= clear) next(std::false_type());
			while (at < x.to || at == x.from) next(std::true_type()); // an empty request has a block too
			softmax.finish();
			if ((lane & 3) == 0)
#pragma unroll
				for (int i = 0; i < 2; i++) {
					const float l = softmax.sum[i];
					sums[row + 8 * i] = l > 0.f ? 1.f / l : 0.f;
					writeLSE(p, x, g, r0, rows, row + 8 * i, l > 0.f ? softmax.most[i] * p.scale + log2f(l) : -CUDART_INF_F);
				}
		} else {
			int at = x.from;
			do {
				const uint32_t k = swizzled(stage0 + stage * QBYTES + SLICES / 2 * kSlice, kSlice);
				barrierWait(full + stage * 8, phase);
				proxyFence();
				barrierWait(handed, hand);
				hand ^= 1;
				const float factor[2] = {factors[row], factors[row + 8]};
				rescale(o, factor);
				wgmmaFence();
#pragma unroll
				for (int i = 0; i < 4; i++) wgmma<1>(o, descriptor(swizzled(weights), i * 32), descriptor(k, i * 2048), 1);
				wgmmaCommit();
				wgmmaWait<0>();
				barrierArrive(taken);
				if (lane == 0) barrierArrive(empty + stage * 8);
				if (++stage == p.stages) stage = 0, phase ^= 1;
				at += kBlockTokens;
			} while (at < x.to);
		}
		blockSync(BAR_CONSUMERS, kConsumers);
		const float inv[2] = {sums[row], sums[row + 8]};
#pragma unroll
		for (int i = 0; i < N; i++) o[i] *= inv[i >> 1 & 1];
		writeRows<L, 0, N>(p, x, g, r0, rows, row, wg * (L / 2), o);
		blockSync(BAR_CONSUMERS, kConsumers);
		if (x.pieces > 1 && tid == 0) arrive(p.arrived + (long)x.b * p.tiles + tile, x);
	}
	combine<L>(p, *shared, tile, g, 1, r0, rows, kConsumers, BAR_CONSUMERS, raw);
}

} // namespace

#ifdef FP8_CACHE
extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1) decode_latent_384_wide_fp8(const __grid_constant__ DecodeFP8Args p) { decodeWide<384>(p.decode, Scaled{p.kScale, p.vScale}); }
extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1) decode_latent_512_wide_fp8(const __grid_constant__ DecodeFP8Args p) { decodeWide<512>(p.decode, Scaled{p.kScale, p.vScale}); }
#else
extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1) decode_latent_384_wide(const __grid_constant__ DecodeArgs p) { decodeWide<384>(p, Halves()); }
extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1) decode_latent_512_wide(const __grid_constant__ DecodeArgs p) { decodeWide<512>(p, Halves()); }
#endif
#endif
