// What the wgmma kernels of decode_latent share. Two warpgroups compute, a third copies. A block of 64 tokens lies in
// shared memory as slices of 64 columns, [64 tokens, 64 columns] of 8 KB under the 128-byte swizzle: the latent's
// slices serve as keys (rows along the columns) and as values (rows along the tokens), the rope's slice as keys only.
// Copies are cp.async, 16 bytes a thread, so that the page size does not matter: each thread looks up one token's page
// and hands it round.
#pragma once
#include "decode_plan.cuh"

#ifdef HOPPER
// wgmma with 256 columns, in the two forms of mma.cuh.
#define ACC_256 \
	"%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
	"%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63," \
	"%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95," \
	"%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
template <int trans> __device__ __forceinline__ void wgmma(float (&d)[128], const uint32_t (&a)[4], uint64_t b, int add) {
	asm volatile("{.reg .pred p; setp.ne.b32 p, %133, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" ACC_256 "}, {%128,%129,%130,%131}, %132, p, 1, 1, %134;}"
		: ACC64(d, 0), ACC64(d, 64) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(trans));
}
template <int trans> __device__ __forceinline__ void wgmma(float (&d)[128], uint64_t a, uint64_t b, int add) {
	asm volatile("{.reg .pred p; setp.ne.b32 p, %130, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" ACC_256 "}, %128, %129, p, 1, 1, 0, %131;}"
		: ACC64(d, 0), ACC64(d, 64) : "l"(a), "l"(b), "r"(add), "n"(trans));
}

// arriveCopies arrives once every copyAsync16 that this thread issued before has landed.
__device__ __forceinline__ void arriveCopies(uint32_t bar) {
	asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(bar) : "memory");
}

namespace {

constexpr int kSlice = 8192, kConsumers = 256, kDecodeThreads = 384;
enum { BAR_CONSUMERS = 1 };

// Blocks walks the token blocks of a part, across requests.
struct Blocks {
	Walk walk;
	Span x;
	int at;
	bool live;
	__device__ __forceinline__ Blocks(const DecodeArgs &p, const Walk &w) : walk(w) {
		live = walk.next(p, x);
		at = live ? x.from : 0;
	}
	__device__ __forceinline__ void step(const DecodeArgs &p) {
		at += kBlockTokens;
		if (at < x.to) return;
		live = walk.next(p, x);
		at = live ? x.from : 0;
	}
};

// A Copier is a thread of the copying warpgroup, whose warp w brings tokens 16w.. of every block.
template <int SLICES> struct Copier {
	static constexpr int L = SLICES * 64;
	const DecodeArgs &p;
	int g, lane, warp;
	__device__ __forceinline__ Copier(const DecodeArgs &p, int g) : p(p), g(g), lane(threadIdx.x & 31), warp(threadIdx.x >> 5 & 3) {}
	// token is the one whose page number the thread looks up.
	__device__ __forceinline__ int token(int at) const { return at + warp * 16 + (lane & 15); }
	__device__ __forceinline__ const int *entry(int b, int token) const { return p.pages + (long)b * p.maxPages + (token >> p.pageShift); }
	// copy brings tokens at..to of a block, on pages that the warp's first 16 threads know, and arrives at full once
	// they are there.
	__device__ __forceinline__ void copy(int at, int to, int pages, uint32_t dst, uint32_t full) const {
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const int row = warp * 16 + i * 4 + (lane >> 3), token = at + row;
			const bool valid = token < to;
			const long slot = (long)__shfl_sync(~0u, pages, i * 4 + (lane >> 3)) << p.pageShift | (token & ((1 << p.pageShift) - 1));
			const bf16 *src = p.k + (slot * p.G + g) * L + (lane & 7) * 8;
			const uint32_t place = dst + row * 128 + (((lane & 7) ^ (row & 7)) << 4);
#pragma unroll
			for (int s = 0; s < SLICES; s++) copyAsync16(place + s * kSlice, src + s * 64, valid);
			if ((lane & 7) * 8 < p.R) copyAsync16(place + SLICES * kSlice, p.kRope + slot * p.R + (lane & 7) * 8, valid);
		}
		arriveCopies(full);
	}
};

// produce runs in the copying warpgroup. full and empty are barriers, 8 bytes a stage.
template <int SLICES> __device__ __forceinline__ void produce(const DecodeArgs &p, const Walk &walk, int g, int stages, uint32_t stage0, uint32_t full, uint32_t empty) {
	const Copier<SLICES> copier(p, g);
	Blocks next(p, walk);
	auto pageOf = [&]() {
		const int token = copier.token(next.at);
		return next.live && token < next.x.to ? *copier.entry(next.x.b, token) : 0;
	};
	int page = pageOf();
	for (int stage = 0, phase = 1; next.live;) {
		const int at = next.at, to = next.x.to, pages = page;
		const bool fresh = min(at + kBlockTokens, to) > next.x.length - p.T; // with new tokens
		if (!(copier.lane & 23)) prefetchPages(p, next.x.b, copier.token(at) + 8 * kBlockTokens); // lanes 0 and 8: 32 bytes of entries each
		next.step(p);
		page = pageOf(); // of the next block, while this one's copies are under way
		if (fresh) step_wait();
		barrierWait(empty + stage * 8, phase);
		copier.copy(at, to, pages, stage0 + stage * (SLICES + 1) * kSlice, full + stage * 8);
		if (++stage == stages) stage = 0, phase ^= 1;
	}
	copyWait<0>();
}

// Where a warp's tokens lie on several pages, the look-ups are too many for L2 to answer between two blocks: page
// numbers travel through shared memory, kAhead blocks ahead of the copies. kAhead is no less than the number of stages,
// so that waiting for them never waits for a tile.
__device__ __forceinline__ bool scattered(const DecodeArgs &p) { return p.pageShift < 4; }
constexpr int kAhead = 8, kAheadBytes = 4 * (64 + 8); // a block: 16 page numbers for each warp, and for each where it starts and ends

// produceScattered is produce with look-ups ahead; ring has room for 2·kAhead blocks of them.
template <int SLICES> __device__ __forceinline__ void produceScattered(const DecodeArgs &p, const Walk &walk, int g, int stages, uint32_t stage0, uint32_t full, uint32_t empty, uint32_t ring) {
	const Copier<SLICES> copier(p, g);
	Blocks next(p, walk);
	ring += copier.warp * (kAheadBytes / 4);
	int turn = 0; // the place of the block at hand in the ring
	auto look = [&](int place) {
		const uint32_t dst = ring + place * kAheadBytes;
		const int token = copier.token(next.at);
		if (next.live && copier.lane < 16 && token < next.x.to)
			asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(dst + copier.lane * 4), "l"(copier.entry(next.x.b, token)) : "memory");
		const bool fresh = min(next.at + kBlockTokens, next.x.to) > next.x.length - p.T; // said by the start, which is even
		if (copier.lane == 16) asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(dst + 64), "r"(next.at | fresh), "r"(next.live ? next.x.to : -1) : "memory");
		copyCommit();
		if (next.live) next.step(p);
	};
#pragma unroll 1
	for (int i = 0; i < kAhead; i++) look(i);
	int at, to, page;
	bool fresh;
	auto take = [&]() {
		copyWait<kAhead - 1>();
		__syncwarp();
		const uint32_t src = ring + turn * kAheadBytes;
		asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(at), "=r"(to) : "r"(src + 64) : "memory");
		asm volatile("ld.shared.b32 %0, [%1];" : "=r"(page) : "r"(src + (copier.lane & 15) * 4) : "memory");
		fresh = at & 1, at &= ~1;
		if (copier.token(at) >= to) page = 0;
		turn = (turn + 1) % (2 * kAhead);
	};
	take();
	for (int stage = 0, phase = 1; to >= 0;) {
		const int from = at, end = to, pages = page;
		if (fresh) step_wait();
		look((turn + kAhead - 1) % (2 * kAhead));
		take();
		barrierWait(empty + stage * 8, phase);
		copier.copy(from, end, pages, stage0 + stage * (SLICES + 1) * kSlice, full + stage * 8);
		if (++stage == stages) stage = 0, phase ^= 1;
	}
	copyWait<0>();
}

// loadQueries brings rows r0.. of kv head g, in tiles of 64 rows, into slices like the cache's: a row a warp, by the
// eight computing warps.
template <int SLICES> __device__ __forceinline__ void loadQueries(const DecodeArgs &p, int b, int g, int r0, int rows, int tiles, uint32_t q) {
	const int lane = threadIdx.x & 31, vectors = SLICES * 8 + p.R / 8;
	step_wait();
#pragma unroll 1
	for (int r = threadIdx.x >> 5; r < tiles * 64; r += kConsumers / 32) {
		const bf16 *src = p.q + rowOffset(p, b, g, r0 + min(r, rows - 1)) * (SLICES * 64 + p.R);
		const uint32_t dst = q + (r >> 6) * (SLICES + 1) * kSlice + (r & 63) * 128;
#pragma unroll 2
		for (int c = lane; c < vectors; c += 32) copyAsync16(dst + (c >> 3) * kSlice + (((c & 7) ^ (r & 7)) << 4), src + c * 8, r < rows);
	}
	asm volatile("cp.async.wait_all;" ::: "memory");
	proxyFence();
	blockSync(BAR_CONSUMERS, kConsumers);
}

// scores starts s [64 rows, 64 tokens] = q · kᵀ, over the whole rope slice: its columns past R are zeros. Of the
// operands it takes the low words of their descriptors, so that one addition makes each of them: more would stand
// between two products of 32 cycles.
template <int SLICES> __device__ __forceinline__ void scores(float (&s)[32], uint32_t q, uint32_t k) {
	wgmmaFence();
#pragma unroll
	for (int i = 0; i < SLICES * 4 + 4; i++) {
		const int at = (i >> 2) * kSlice + (i & 3) * 32;
		wgmma<0>(s, descriptor(q, at), descriptor(k, at), i > 0);
	}
	wgmmaCommit();
}

// values starts o [64 rows, columns] += w · v for the 64 tokens of v, the low word of a descriptor as wide as a slice.
template <int N> __device__ __forceinline__ void values(float (&o)[N], const uint32_t (&w)[4][4], uint32_t v) {
	wgmmaFence();
#pragma unroll
	for (int i = 0; i < 4; i++) wgmma<1>(o, w[i], descriptor(v, i * 2048), 1);
	wgmmaCommit();
}

// clearRope zeroes the columns past R of the rope slices of `tiles` tiles, once: no copy touches them.
template <int SLICES> __device__ __forceinline__ void clearRope(const DecodeArgs &p, char *tile, int tiles) {
	const int vectors = 8 - p.R / 8;
#pragma unroll 1
	for (int i = threadIdx.x; i < tiles * 64 * vectors; i += kDecodeThreads) {
		const int row = i / vectors, c = p.R / 8 + i % vectors;
		*(uint4 *)(tile + (row >> 6) * (SLICES + 1) * kSlice + SLICES * kSlice + (row & 63) * 128 + ((c ^ (row & 7)) << 4)) = uint4{0, 0, 0, 0};
	}
}

// orderedExp2 keeps its place before the next wait for wgmma: the softmax is to run while products do.
__device__ __forceinline__ float orderedExp2(float x) {
	float y;
	asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

// Softmax holds two rows a thread (lane/4 of its warp's 16, and 8 below) of the running maximum (of unscaled scores)
// and this thread's share of the sum; the maximum may lie behind by slack.
struct Softmax {
	float most[2], sum[2];
	__device__ __forceinline__ void start() {
#pragma unroll
		for (int i = 0; i < 2; i++) most[i] = -CUDART_INF_F, sum[i] = 0.f;
	}
	// step turns scores into weights and returns what earlier sums are to be multiplied by.
	// Where it masks, the thread's rows are row and row + 8 of the tile's head, and the block's first token is at.
	template <bool MASKED> __device__ __forceinline__ void step(const DecodeArgs &p, float (&s)[32], float (&factor)[2], const Span &x, int row, int at) {
		const float scale = p.scale;
		if constexpr (MASKED)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				const int limit = min(x.to, rowLimit(p, x.length, row + 8 * i)) - at - (threadIdx.x & 3) * 2; // tokens the row may see
#pragma unroll
				for (int j = 0; j < 16; j++)
					if ((j >> 1) * 8 + (j & 1) >= limit) s[(j >> 1) * 4 + i * 2 + (j & 1)] = -CUDART_INF_F;
			}
#pragma unroll
		for (int i = 0; i < 2; i++) {
			float m = most[i];
#pragma unroll
			for (int j = 0; j < 8; j++) m = fmaxf(m, fmaxf(s[j * 4 + i * 2], s[j * 4 + i * 2 + 1]));
			m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
			m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
			const bool keep = (m - most[i]) * scale <= slack;
			if (keep) m = most[i];
			const float ref = m == -CUDART_INF_F ? 0.f : m * scale;
			factor[i] = keep ? 1.f : orderedExp2(most[i] * scale - ref);
			most[i] = m;
			float l = 0.f;
#pragma unroll
			for (int j = 0; j < 8; j++) {
				s[j * 4 + i * 2] = orderedExp2(s[j * 4 + i * 2] * scale - ref);
				s[j * 4 + i * 2 + 1] = orderedExp2(s[j * 4 + i * 2 + 1] * scale - ref);
				l += s[j * 4 + i * 2] + s[j * 4 + i * 2 + 1];
			}
			sum[i] = sum[i] * factor[i] + l;
		}
	}
	__device__ __forceinline__ void finish() {
#pragma unroll
		for (int i = 0; i < 2; i++) {
			sum[i] += __shfl_xor_sync(~0u, sum[i], 1);
			sum[i] += __shfl_xor_sync(~0u, sum[i], 2);
		}
	}
};

__device__ __forceinline__ void packWeights(const float (&s)[32], uint32_t (&w)[4][4]) {
#pragma unroll
	for (int k = 0; k < 4; k++)
#pragma unroll
		for (int i = 0; i < 4; i++) w[k][i] = packBF16(s[k * 8 + i * 2], s[k * 8 + i * 2 + 1]);
}

template <int N> __device__ __forceinline__ void rescale(float (&o)[N], const float (&factor)[2]) {
	if (__any_sync(~0u, factor[0] != 1.f || factor[1] != 1.f)) {
#pragma unroll
		for (int i = 0; i < N; i++) o[i] *= factor[i >> 1 & 1];
	}
}

// writeRows stores columns from.. of two rows, r and r+8, of tile rows r0..r0+rows: o[FIRST..FIRST+COUNT).
template <int DV, int FIRST, int COUNT, int N> __device__ __forceinline__ void writeRows(const DecodeArgs &p, const Span &x, int g, int r0, int rows, int r, int from, const float (&o)[N]) {
	const int col = from + (threadIdx.x & 3) * 2, all = p.T * (p.H / p.G);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (r + 8 * i >= rows) continue;
		if (x.pieces == 1) {
			bf16 *out = p.out + rowOffset(p, x.b, g, r0 + r + 8 * i) * DV + col;
#pragma unroll
			for (int j = 0; j < COUNT / 4; j++) *(uint32_t *)(out + j * 8) = packBF16(o[FIRST + j * 4 + i * 2], o[FIRST + j * 4 + i * 2 + 1]);
		} else {
			float *out = p.partial + (((long)x.piece * p.G + g) * all + r0 + r + 8 * i) * DV + col;
#pragma unroll
			for (int j = 0; j < COUNT / 4; j++) *(float2 *)(out + j * 8) = float2{o[FIRST + j * 4 + i * 2], o[FIRST + j * 4 + i * 2 + 1]};
		}
	}
}
__device__ __forceinline__ void writeLSE(const DecodeArgs &p, const Span &x, int g, int r0, int rows, int r, float lse2) {
	if (r >= rows) return;
	if (x.pieces == 1) p.lse[rowOffset(p, x.b, g, r0 + r)] = lse2 * 0.69314718056f;
	else p.partialLSE[((long)g * p.T * (p.H / p.G) + r0 + r) * p.pieces + x.piece] = lse2;
}

} // namespace
#endif
