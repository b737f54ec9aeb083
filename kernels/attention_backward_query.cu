// The query gradient of causal attention on Hopper, and the statistics both backward kernels need. A tile is 64 queries
// per warpgroup against blocks of 64 keys; scores are recomputed, so that nothing is summed across blocks of the grid
// and two runs agree to the bit. (attention_query_gradient is faster where there is room for dS.) dQ = scale · Σ_j dS_j
// · K_j with dS = P ∘ (dO·Vᵀ - Σ dO·O).
#include "attention_tile.cuh"

#ifdef HOPPER

// HOLD keeps the queries and dO in registers; without it the products read them from shared memory.
template <int DK, int DV, int WGS, int STAGES, bool HOLD> struct BackwardQuery {
	static constexpr int BM = 64 * WGS, BN = 64;
	static constexpr int Q = (DK + 63) / 64 * BM * 128, DO = (DV + 63) / 64 * BM * 128;
	static constexpr int K = (DK + 63) / 64 * BN * 128, V = (DV + 63) / 64 * BN * 128;
	static constexpr int bars = Q + DO + STAGES * (K + V), smem = bars + 32 + 16 * STAGES + 1024;

	uint32_t base;
	__device__ uint32_t k(int s) { return base + Q + DO + s * (K + V); }
	__device__ uint32_t v(int s) { return k(s) + K; }
	__device__ uint32_t qFull() { return base + bars; }
	__device__ uint32_t qEmpty() { return base + bars + 8; }
	__device__ uint32_t slots() { return base + bars + 16; }
	__device__ uint32_t full(int s) { return base + bars + 32 + 16 * s; }
	__device__ uint32_t empty(int s) { return full(s) + 8; }

	__device__ void produce(const AttentionArgs<bf16> &p) {
		Ring ring = {0, 1};
		Feed feed;
		Queue queue;
		queue.start(slots());
		for (int i = 0;; i++) {
			Tile tile;
			bool more = tileAt(queue.index, (p.T + BM - 1) / BM, p.B * p.H, p.chunk, true, tile);
			feed.acquire(qEmpty(), (i & 1) ^ 1);
			queue.offer(qFull(), more, p.queue);
			if (!more) break;
			int b = tile.head / p.H, h = tile.head % p.H, g = h / (p.H / p.G), m0 = tile.block * BM;
			copyRows<DK, BM>(base, p.q + ((size_t)b * p.T * p.H + h) * DK, p.H * DK, m0, p.T);
			copyRows<DV, BM>(base + Q, p.dO + ((size_t)b * p.T * p.H + h) * DV, p.H * DV, m0, p.T);
			feed.commit(qFull());
			const int stop = MASKED ? firstKey(p, b, m0) / BN : 0;
			for (int j = (min(m0 + BM, p.T) - 1) / BN; j >= stop; j--) {
				feed.acquire(empty(ring.stage), ring.parity);
				copyKeys<DK, BN>(k(ring.stage), p, b, g, j * BN, p.T);
				copyRows<DV, BN>(v(ring.stage), p.v + ((size_t)b * p.T * p.G + g) * p.vStride, p.G * p.vStride, j * BN, p.T);
				feed.commit(full(ring.stage));
				ring.next<STAGES>();
			}
			queue.next(i, feed);
		}
		feed.settle();
		barrierArrive(qFull());
	}

	// products starts S = Q·Kᵀ and dP = dO·Vᵀ of one block.
	__device__ void products(float (&s)[32], float (&dp)[32], const uint32_t (&q)[HOLD ? DK / 16 : 1][4], const uint32_t (&dO)[HOLD ? DV / 16 : 1][4], int stage) {
		uint32_t rows = warpgroup() * 8192, key = uniform(swizzled(k(stage))), value = uniform(swizzled(v(stage)));
		pin(s);
		pin(dp);
		wgmmaFence();
#pragma unroll
		for (int i = 0; i < DK / 16; i++) {
			int at = i / 4 * BN * 128 + i % 4 * 32;
			if constexpr (HOLD) wgmma<0>(s, q[i], descriptor(key, at), i > 0);
			else wgmma<0>(s, descriptor(swizzled(base + rows), i / 4 * BM * 128 + i % 4 * 32), descriptor(key, at), i > 0);
		}
#pragma unroll
		for (int i = 0; i < DV / 16; i++) {
			int at = i / 4 * BN * 128 + i % 4 * 32;
			if constexpr (HOLD) wgmma<0>(dp, dO[i], descriptor(value, at), i > 0);
			else wgmma<0>(dp, descriptor(swizzled(base + Q + rows), i / 4 * BM * 128 + i % 4 * 32), descriptor(value, at), i > 0);
		}
		wgmmaCommit();
	}

	// scoreGradient turns S into P ∘ (dP - delta).
	__device__ static void scoreGradient(float (&s)[32], const float (&dp)[32], const float2 (&stat)[2], float c) {
#pragma unroll
		for (int e = 0; e < 32; e++) s[e] = fastExp2(fmaf(s[e], c, stat[e % 4 / 2].x)) * (dp[e] - stat[e % 4 / 2].y);
	}

	// addQuery starts dQ += dS·K.
	__device__ void addQuery(float (&dq)[DK / 2], const uint32_t (&ds)[4][4], int stage) {
		pin(dq);
		wgmmaFence();
		uint32_t key = uniform(swizzled(k(stage), BN * 128));
#pragma unroll
		for (int i = 0; i < 4; i++) wgmma<1>(dq, ds[i], descriptor(key, i * 2048), 1);
		wgmmaCommit();
	}

	// hide takes out of block j what lies before the first keys of a lane's two queries.
	__device__ static void hide(float (&s)[32], const int (&firsts)[2], int j) {
		const int at = j * BN + threadIdx.x % 4 * 2, first[2] = {firsts[0] - at, firsts[1] - at};
#pragma unroll
		for (int e = 0; e < 32; e++)
			if (e / 4 * 8 + e % 2 < first[e % 4 / 2]) s[e] = -INFINITY;
	}

	// skip passes over the blocks from one down to another, which this warpgroup's queries do not see.
	__device__ void skip(Ring &ring, int from, int to) {
		for (; from > to; from--) {
			barrierWait(full(ring.stage), ring.parity);
			release(empty(ring.stage));
			ring.next<STAGES>();
		}
	}

	__device__ void consume(const AttentionArgs<bf16> &p) {
		int wg = warpgroup(), lane = threadIdx.x % 32, rowInTile = threadIdx.x / 32 * 16 + lane / 4, Tp = paddedT(p.T);
		float c = p.scale * LOG2E;
		Ring ring = {0, 0};
		for (int i = 0;; i++) {
			Tile tile;
			barrierWait(qFull(), i & 1);
			if (!tileAt(Queue::published(slots()), (p.T + BM - 1) / BM, p.B * p.H, p.chunk, true, tile)) break;
			int b = tile.head / p.H, h = tile.head % p.H, m0 = tile.block * BM, first = m0 + 64 * wg;
			// the last blocks of the tile and of this warpgroup, and the key before which nothing is hidden from any of its queries
			const int stop = MASKED ? firstKey(p, b, m0) / BN : 0, mine = MASKED ? firstKey(p, b, first) / BN : 0;
			const int firsts[2] = {MASKED ? firstKey(p, b, m0 + rowInTile) : 0, MASKED ? firstKey(p, b, m0 + rowInTile + 8) : 0};
			const int hidden = MASKED ? firstKey(p, b, first + 63) : 0;
			int last = (min(m0 + BM, p.T) - 1) / BN, j = first < p.T ? first / BN : stop - 1;
			float2 stat[2];
#pragma unroll
			for (int r = 0; r < 2; r++) stat[r] = j < stop ? float2{} : p.stats[((size_t)b * p.H + h) * Tp + m0 + rowInTile + 8 * r];
			uint32_t q[HOLD ? DK / 16 : 1][4], dO[HOLD ? DV / 16 : 1][4];
			if constexpr (HOLD) {
#pragma unroll
				for (int e = 0; e < DK / 16; e++) fragment<BM>(q[e], base, threadIdx.x / 32 * 16, e);
#pragma unroll
				for (int e = 0; e < DV / 16; e++) fragment<BM>(dO[e], base + Q, threadIdx.x / 32 * 16, e);
				barrierArrive(qEmpty());
			}
			skip(ring, last, j); // only later warpgroups of the tile see them
			if (j < stop) {
				if (!HOLD) barrierArrive(qEmpty());
				continue;
			}

			float s[32], dp[32], dq[DK / 2];
#pragma unroll
			for (int e = 0; e < DK / 2; e++) dq[e] = 0;
			barrierWait(full(ring.stage), ring.parity);
			products(s, dp, q, dO, ring.stage);
			wgmmaWait<0>();
			pin(s);
			pin(dp);
			int row = rowInTile - 64 * wg - lane % 4 * 2; // on the diagonal the key columns 8i+e of this lane up to row are seen
#pragma unroll
			for (int e = 0; e < 32; e++)
				if (e / 4 * 8 + e % 2 > row + e % 4 / 2 * 8) s[e] = -INFINITY;
			if (MASKED && j * BN < hidden) hide(s, firsts, j);
			uint32_t ds[4][4];
			scoreGradient(s, dp, stat, c);
#pragma unroll
			for (int e = 0; e < 4; e++) packFragment(ds[e], s, e);
			int held = ring.stage;
			ring.next<STAGES>();
			if (j > mine) barrierWait(full(ring.stage), ring.parity);
#pragma unroll
			for (int edge = MASKED ? 0 : 1; edge < 2; edge++) { // blocks of which nothing is hidden have a loop of their own
				const int to = edge ? mine : max(mine, (hidden + BN - 1) / BN);
				for (; j > to; j--) {
					products(s, dp, q, dO, ring.stage);
					addQuery(dq, ds, held);
					wgmmaWait<1>();
					pin(s);
					pin(dp);
					if (MASKED && edge) hide(s, firsts, j - 1);
					scoreGradient(s, dp, stat, c);
					pin(s);
					int current = ring.stage;
					ring.next<STAGES>();
					if (j > mine + 1) barrierWait(full(ring.stage), ring.parity); // here its branch also keeps ptxas from waiting for dq before the exponentials
					wgmmaWait<0>();
					pin(dq);
					release(empty(held));
					held = current;
#pragma unroll
					for (int e = 0; e < 4; e++) packFragment(ds[e], s, e);
				}
			}
			if (!HOLD) barrierArrive(qEmpty());
			addQuery(dq, ds, held);
			wgmmaWait<0>();
			pin(dq);
			release(empty(held));
			if (MASKED) skip(ring, mine, stop); // only earlier warpgroups of the tile see them
#pragma unroll
			for (int r = 0; r < 2; r++) {
				int t = m0 + rowInTile + 8 * r;
				storeRow<DK>(p.dQ + (((size_t)b * p.T + t) * p.H + h) * DK, dq, r, p.scale, t < p.T ? DK : 0);
			}
		}
	}

	__device__ void run(const AttentionArgs<bf16> &p) {
		extern __shared__ char dynamic[];
		base = (smemAddress(dynamic) + 1023) & ~1023;
		if (threadIdx.x == 0) {
			barrierInit(qFull(), 129);
			barrierInit(qEmpty(), 128 * WGS);
			for (int s = 0; s < STAGES; s++) {
				barrierInit(full(s), 128);
				barrierInit(empty(s), 4 * WGS);
			}
			barrierInitFence();
		}
		__syncthreads();
		if (threadIdx.x >= WGS * 128) {
			fewerRegisters<WGS == 2 ? 40 : 32>();
			produce(p);
		} else {
			moreRegisters<WGS == 2 ? 232 : 160>();
			consume(p);
		}
	}
};
#endif

// Widths of key and value, warpgroups, stages, whether queries stay in registers, bytes of shared memory: as in
// attention_shape.go.
#define ATTENTION_BACKWARD_QUERY(DK, DV, WGS, STAGES, HOLD, BYTES) \
	extern "C" __global__ void __launch_bounds__(WGS * 128 + 128, 1) ATTENTION(attention_backward_query_##DK##_##DV)(const __grid_constant__ AttentionArgs<bf16> p) { \
		ON_HOPPER(static_assert(BackwardQuery<DK, DV, WGS, STAGES, HOLD>::smem == BYTES); BackwardQuery<DK, DV, WGS, STAGES, HOLD>().run(p);) \
	}

ATTENTION_BACKWARD_QUERY(64, 64, 2, 4, true, 99424)
ATTENTION_BACKWARD_QUERY(96, 64, 2, 4, true, 148576)
ATTENTION_BACKWARD_QUERY(96, 96, 2, 4, false, 197728)
ATTENTION_BACKWARD_QUERY(128, 96, 2, 4, false, 197728)
ATTENTION_BACKWARD_QUERY(128, 128, 2, 4, false, 197728)
ATTENTION_BACKWARD_QUERY(192, 128, 2, 3, false, 205904)
