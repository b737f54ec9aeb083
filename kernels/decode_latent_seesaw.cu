// decode_latent for latents of 384 and 512 columns and more than 64 query rows: like decode_latent_wide, two warpgroups
// share the output of 64 rows, a half of its columns each, but they take turns at scores and weights. A span's even
// blocks are the first warpgroup's, the odd ones the second's: while one weighs a block, products of the other run.
// Each multiplies its own weights from registers and the other's, which come through shared memory, in the order of the
// blocks, so that the running maximum has one history.
//
// Two stages are all that fits. So a stage is filled and freed in four groups of slices, in the order in which values
// are done with them: the scores of a block start on its first group while values of the block before still stand in
// the others.
#include "decode_latent.cuh"
#include <type_traits>

#ifdef HOPPER
namespace {

constexpr int kSeesawFixed = 2048; // barriers, walk, factors [64], maxima [64], sums [2][64]

// A launch of 384 threads has 168 registers each; a warpgroup that asks for more than others gave back waits for ever.
constexpr int kCopyRegisters = 40, kComputeRegisters = 232;
static_assert(kCopyRegisters + 2 * kComputeRegisters <= 3 * 168);

// Bytes of shared memory, as in decode_shape.go: up to 1,023 to begin on a tile's border.
template <int L> constexpr int seesawBytes() { return 1024 + 3 * (L / 64 + 1) * kSlice + kSlice + kSeesawFixed; }
static_assert(seesawBytes<384>() == 183296);
static_assert(seesawBytes<512>() == 232448);
static_assert(64 + 64 + 16 + 64 + 4 * 64 * 4 <= kSeesawFixed && sizeof(Walk) <= 64); // full | empty | handed | walk | ...

// Groups of slices, in the order of copies and scores: the first columns of the left half and of the right, then the
// last 128 of the left half, and of the right with the rope.
template <int SLICES> struct Groups {
	static constexpr int HALF = SLICES / 2, FIRST = HALF - 2;
	__host__ __device__ static constexpr int from(int group) { return (group & 1) * HALF + (group >> 1) * FIRST; }
	__host__ __device__ static constexpr int to(int group) { return from(group) + (group >> 1 ? (group == 3 ? 3 : 2) : FIRST); }
};

// produceGroups is produce with a barrier for each group of a stage.
template <int SLICES> __device__ __forceinline__ void produceGroups(const DecodeArgs &p, const Walk &walk, int g, uint32_t stage0, uint32_t full, uint32_t empty) {
	const Copier<SLICES> copier(p, g);
	Blocks next(p, walk);
	const int lane = copier.lane, column = (lane & 7) * 8;
	auto pageOf = [&]() {
		const int token = copier.token(next.at);
		return next.live && token < next.x.to ? *copier.entry(next.x.b, token) : 0;
	};
	int page = pageOf();
	for (int stage = 0, phase = 1; next.live;) {
		const int at = next.at, to = next.x.to;
		const bool fresh = min(at + kBlockTokens, to) > next.x.length - p.T; // with new tokens
		unsigned slot[4];
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const int token = at + copier.warp * 16 + i * 4 + (lane >> 3);
			slot[i] = (unsigned)__shfl_sync(~0u, page, i * 4 + (lane >> 3)) << p.pageShift | (token & ((1 << p.pageShift) - 1));
		}
		const int left = to - at - copier.warp * 16 - (lane >> 3); // row 4i of the thread is there where 4i < left
		if (!(lane & 23)) prefetchPages(p, next.x.b, copier.token(at) + 8 * kBlockTokens);
		next.step(p);
		page = pageOf(); // of the next block, while this one's copies are under way
		if (fresh) step_wait();
#pragma unroll
		for (int group = 0; group < 4; group++) {
			barrierWait(empty + (stage * 4 + group) * 8, phase);
#pragma unroll
			for (int i = 0; i < 4; i++) {
				const int row = copier.warp * 16 + i * 4 + (lane >> 3);
				const bf16 *src = p.k + ((long)slot[i] * p.G + g) * copier.L + column;
				const uint32_t place = stage0 + stage * (SLICES + 1) * kSlice + row * 128 + (((lane & 7) ^ (row & 7)) << 4);
#pragma unroll
				for (int s = Groups<SLICES>::from(group); s < min(SLICES, Groups<SLICES>::to(group)); s++)
					copyAsync16(place + s * kSlice, src + s * 64, i * 4 < left);
				if (group == 3 && column < p.R) copyAsync16(place + SLICES * kSlice, p.kRope + (long)slot[i] * p.R + column, i * 4 < left);
			}
			arriveCopies(full + (stage * 4 + group) * 8);
		}
		stage ^= 1;
		if (stage == 0) phase ^= 1;
	}
	copyWait<0>();
}

// storeMatrices4 is the other way of ldmatrix4.
__device__ __forceinline__ void storeMatrices4(uint32_t addr, const uint32_t (&r)[4]) {
	asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(addr), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}

template <int L> __device__ __forceinline__ void decodeSeesaw(const DecodeArgs &p) {
	constexpr int SLICES = L / 64, QBYTES = (SLICES + 1) * kSlice, FIRST = L / 2 - 128; // columns that values take first, then 128
	extern __shared__ char raw[];
	const uint32_t base = (smemAddress(raw) + 1023) & ~1023u;
	char *smem = raw + (base - smemAddress(raw));
	// queries | stages | weights [64, 64] | barriers | walk | factors | maxima | sums
	const uint32_t q = base, stage0 = q + QBYTES, weights = stage0 + 2 * QBYTES, full = weights + kSlice, empty = full + 64, handed = empty + 64;
	Walk *shared = (Walk *)(smem + (handed - base) + 16);
	float *factors = (float *)((char *)shared + 64), *maxima = factors + 64, *sums = maxima + 64;

	const int tile = blockIdx.x % p.tiles, part = blockIdx.x / p.tiles, g = tile % p.G, r0 = tile / p.G * 64;
	const int rows = min(64, p.T * (p.H / p.G) - r0);
	const int tid = threadIdx.x, wg = warpgroup(), lane = tid & 31, warp = tid >> 5 & 3;
	step_begin();
	if (tid < 32) findWalk(p, part, shared);
	if (tid == 0) {
#pragma unroll 1
		for (int i = 0; i < 8; i++) {
			barrierInit(full + i * 8, 128);
			barrierInit(empty + i * 8, 4);
		}
		barrierInit(handed, 128);
		barrierInit(handed + 8, 128);
		barrierInitFence();
	}
	clearRope<SLICES>(p, smem, 3);
	proxyFence();
	__syncthreads();

	if (wg == 2) {
		fewerRegisters<kCopyRegisters>();
		produceGroups<SLICES>(p, *shared, g, stage0, full, empty);
		return;
	}
	moreRegisters<kComputeRegisters>();
	const int row = warp * 16 + (lane >> 2);
	// where this lane's row of a fragment lies in weights and queries: matrices are rows 0-7, rows 8-15, and both 8 columns on
	const int fragmentRow = warp * 16 + (lane & 15);
	auto place = [&](int k) { return fragmentRow * 128 + (((k * 2 + (lane >> 4)) ^ (fragmentRow & 7)) << 4); };
	Walk spans = *shared;
	Span x;
	Softmax softmax;
	float o[FIRST / 2], o2[64], s[32], factor[2] = {1.f, 1.f};
	uint32_t w[4][4], held[4][4]; // held: the rope slice of the queries
	int stage = 0, phase = 0, hand = 0; // of the block at hand; of the weights that the other warpgroup hands over
	auto advance = [&]() { phase ^= stage, stage ^= 1; };

	auto slice = [&](int stage, int i) { return stage0 + stage * QBYTES + i * kSlice; };
	// scoreGroup starts the part of a block's scores that a group of slices gives, once it is there.
	auto scoreGroup = [&](int group) {
		uint32_t a = swizzled(q), b = swizzled(slice(stage, 0));
		asm volatile("" : "+r"(a), "+r"(b)); // else a descriptor for each product stays in registers that then lack
		barrierWait(full + (stage * 4 + group) * 8, phase);
		proxyFence();
		wgmmaFence();
#pragma unroll
		for (int i = Groups<SLICES>::from(group); i < Groups<SLICES>::to(group); i++)
#pragma unroll
			for (int k = 0; k < 4; k++) {
				const int at = i * kSlice + k * 32, more = i + k > 0;
				if (i == SLICES) wgmma<0>(s, held[k], descriptor(b, at), more);
				else wgmma<0>(s, descriptor(a, at), descriptor(b, at), more);
			}
		wgmmaCommit();
	};
	auto score = [&]() {
#pragma unroll
		for (int group = 0; group < 4; group++) scoreGroup(group);
	};
	// value starts the products of this warpgroup's columns, in two groups.
	auto value = [&](const uint32_t (&w)[4][4], int stage) {
		const uint32_t v = swizzled(slice(stage, wg * (SLICES / 2)), kSlice);
		values(o, w, v);
		values(o2, w, v + FIRST / 64 * kSlice / 16);
	};
	auto release = [&](int stage, int group) { if (lane == 0) barrierArrive(empty + (stage * 4 + group) * 8); };
	auto rescaleAll = [&]() {
		if (__any_sync(~0u, factor[0] != 1.f || factor[1] != 1.f)) {
#pragma unroll
			for (int i = 0; i < FIRST / 2; i++) o[i] *= factor[i >> 1 & 1];
#pragma unroll
			for (int i = 0; i < 64; i++) o2[i] *= factor[i >> 1 & 1];
		}
	};
	auto give = [&](int to) { // hands this block's weights, factors and maxima over
#pragma unroll
		for (int k = 0; k < 4; k++) storeMatrices4(weights + place(k), w[k]);
		if ((lane & 3) == 0)
#pragma unroll
			for (int i = 0; i < 2; i++) factors[row + 8 * i] = factor[i], maxima[row + 8 * i] = softmax.most[i];
		barrierArrive(handed + to * 8);
	};
	auto take = [&](uint32_t (&w)[4][4], int from, int phase) {
		barrierWait(handed + from * 8, phase);
#pragma unroll
		for (int k = 0; k < 4; k++) ldmatrix4(w[k], weights + place(k));
#pragma unroll
		for (int i = 0; i < 2; i++) {
			factor[i] = factors[row + 8 * i];
			softmax.most[i] = maxima[row + 8 * i];
			softmax.sum[i] *= factor[i];
		}
		proxyFence(); // for the block's values
	};
	while (spans.next(p, x)) {
		loadQueries<SLICES>(p, x.b, g, r0, rows, 1, q);
#pragma unroll
		for (int k = 0; k < 4; k++) ldmatrix4(held[k], q + SLICES * kSlice + place(k));
		softmax.start();
#pragma unroll
		for (int i = 0; i < FIRST / 2; i++) o[i] = 0.f;
#pragma unroll
		for (int i = 0; i < 64; i++) o2[i] = 0.f;
		const int clear = min(x.to, x.length - p.T + 1); // blocks that end here or before need no mask
		int at = x.from;
		if (wg == 0) {
			auto own = [&](auto masked, int at) { // the rest of an even block, once its scores are there
				softmax.step<masked.value>(p, s, factor, x, r0 + row, at);
				packWeights(s, w);
				rescaleAll();
				value(w, stage);
				give(0);
				wgmmaWait<1>();
				release(stage, 0);
				wgmmaWait<0>();
				release(stage, 2);
				advance();
			};
			auto next = [&](auto masked) { // an odd block's values and the even one after it, whose scores follow at once
				take(w, 1, hand);
				hand ^= 1;
				rescaleAll();
				value(w, stage);
				const int odd = stage;
				advance();
				scoreGroup(0);
				wgmmaWait<2>();
				release(odd, 0);
				scoreGroup(1);
				wgmmaWait<2>();
				release(odd, 2);
				scoreGroup(2);
				scoreGroup(3);
				wgmmaWait<0>();
				own(masked, at + kBlockTokens);
				at += 2 * kBlockTokens;
			};
			score();
			wgmmaWait<0>();
			own(std::true_type(), at); // an empty request has a block too
			at += kBlockTokens;
			while (at + 2 * kBlockTokens <= clear) next(std::false_type());
			while (at + kBlockTokens < x.to) next(std::true_type());
			if (at < x.to) {
				take(w, 1, hand);
				hand ^= 1;
				rescaleAll();
				value(w, stage);
				wgmmaWait<0>();
				release(stage, 0);
				release(stage, 2);
				advance();
			}
		} else {
			auto next = [&](auto masked) { // an even block's values under the weights of the odd one after it, and that one's
				const int even = stage;
				advance();
				uint32_t theirs[4][4];
				score();
				take(theirs, 0, hand);
				hand ^= 1;
				rescaleAll();
				value(theirs, even);
				wgmmaWait<2>();
				softmax.step<masked.value>(p, s, factor, x, r0 + row, at + kBlockTokens);
				packWeights(s, w);
				give(1);
				wgmmaWait<1>();
				release(even, 1);
				wgmmaWait<0>();
				release(even, 3);
				rescaleAll();
				value(w, stage);
				wgmmaWait<1>();
				release(stage, 1);
				wgmmaWait<0>();
				release(stage, 3);
				advance();
				at += 2 * kBlockTokens;
			};
			while (at + 2 * kBlockTokens <= clear) next(std::false_type());
			while (at + kBlockTokens < x.to) next(std::true_type());
			if (at < x.to || at == x.from) {
				take(w, 0, hand);
				hand ^= 1;
				rescaleAll();
				value(w, stage);
				wgmmaWait<0>();
				release(stage, 1);
				release(stage, 3);
				advance();
			}
		}
		softmax.finish();
		if ((lane & 3) == 0) sums[wg * 64 + row] = softmax.sum[0], sums[wg * 64 + row + 8] = softmax.sum[1];
		blockSync(BAR_CONSUMERS, kConsumers);
		float inv[2];
#pragma unroll
		for (int i = 0; i < 2; i++) {
			const float l = sums[row + 8 * i] + sums[64 + row + 8 * i];
			inv[i] = l > 0.f ? 1.f / l : 0.f;
			if (wg == 0 && (lane & 3) == 0) writeLSE(p, x, g, r0, rows, row + 8 * i, l > 0.f ? softmax.most[i] * p.scale + log2f(l) : -CUDART_INF_F);
		}
#pragma unroll
		for (int i = 0; i < FIRST / 2; i++) o[i] *= inv[i >> 1 & 1];
#pragma unroll
		for (int i = 0; i < 64; i++) o2[i] *= inv[i >> 1 & 1];
		writeRows<L, 0, FIRST / 2>(p, x, g, r0, rows, row, wg * (L / 2), o);
		writeRows<L, 0, 64>(p, x, g, r0, rows, row, wg * (L / 2) + FIRST, o2);
		blockSync(BAR_CONSUMERS, kConsumers);
		if (x.pieces > 1 && tid == 0) arrive(p.arrived + (long)x.b * p.tiles + tile, x);
	}
	combine<L>(p, *shared, tile, g, 1, r0, rows, kConsumers, BAR_CONSUMERS, raw);
}

} // namespace

extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1) decode_latent_384_seesaw(const __grid_constant__ DecodeArgs p) { decodeSeesaw<384>(p); }
extern "C" __global__ void __launch_bounds__(kDecodeThreads, 1) decode_latent_512_seesaw(const __grid_constant__ DecodeArgs p) { decodeSeesaw<512>(p); }
#endif
