// The key and value gradients of causal attention on Hopper. A tile is 64 keys per warpgroup of one group against
// blocks of BQ queries, for every head of the group in turn, so that grouped heads are summed in registers and two runs
// agree to the bit. Keys stand on the rows: Pᵀ and dSᵀ come out of the first two products as the operands of the last
// two. dV = Σ Pᵀ·dO, dK = scale · Σ dSᵀ·Q; a tied dK is added to dV, the shared rope columns leave as partial sums per
// group.
#include "attention_tile.cuh"

#ifdef HOPPER

// HOLD says which operands stay in registers: 1 keys, 2 values. LEAN trades the overlap of one block's gradients with
// the next block's scores for registers.
template <int DK, int DV, int BQ, int STAGES, int HOLD, bool LEAN> struct BackwardKey {
	static constexpr int WGS = 2, BN = 64 * WGS, DIAGONAL = 64 / BQ;
	static constexpr bool HOLDK = HOLD & 1, HOLDV = HOLD & 2;
	static constexpr bool SPLIT = MASKED && HOLDK; // blocks of which nothing is hidden have a loop of their own; at 96 it lost 3%
	static constexpr int K = (DK + 63) / 64 * BN * 128, V = (DV + 63) / 64 * BN * 128;
	static constexpr int Q = (DK + 63) / 64 * BQ * 128, DO = (DV + 63) / 64 * BQ * 128;
	static constexpr int stats0 = K + V + STAGES * (Q + DO), bars = stats0 + STAGES * BQ * 8, smem = bars + 32 + 16 * STAGES + 1024;

	// Where queries no longer see the two keys of a lane, counted from the diagonal of the warpgroup, and how many blocks
	// behind the diagonal see all of the warpgroup's keys, of which the first ends first.
	struct Ends {
		int whole, row[2];
		__device__ Ends(const AttentionArgs<bf16> &p, int b, int key, int lane) {
			if (!MASKED) return;
			whole = max((end(p, b, key) - key) / BQ - DIAGONAL, 0);
			for (int r = 0; r < 2; r++) row[r] = end(p, b, key + lane + 8 * r) - key;
		}
		// edge says that some query of a block, counted from the diagonal, does not see some key.
		__device__ bool edge(int block) const { return (unsigned)(block - DIAGONAL) >= (unsigned)whole; }
	};

	uint32_t base;
	__device__ uint32_t q(int s) { return base + K + V + s * (Q + DO); }
	__device__ uint32_t dO(int s) { return q(s) + Q; }
	__device__ uint32_t stats(int s) { return base + stats0 + s * BQ * 8; }
	__device__ uint32_t kvFull() { return base + bars; }
	__device__ uint32_t kvEmpty() { return base + bars + 8; }
	__device__ uint32_t slots() { return base + bars + 16; }
	__device__ uint32_t full(int s) { return base + bars + 32 + 16 * s; }
	__device__ uint32_t empty(int s) { return full(s) + 8; }

	__device__ void produce(const AttentionArgs<bf16> &p) {
		Ring ring = {0, 1};
		Feed feed;
		Queue queue;
		queue.start(slots());
		int share = p.H / p.G, Tp = paddedT(p.T);
		for (int i = 0;; i++) {
			Tile tile;
			bool more = tileAt(queue.index, (p.T + BN - 1) / BN, p.B * p.G, p.chunk, false, tile);
			feed.acquire(kvEmpty(), (i & 1) ^ 1);
			queue.offer(kvFull(), more, p.queue);
			if (!more) break;
			int b = tile.head / p.G, g = tile.head % p.G, n0 = tile.block * BN;
			copyKeys<DK, BN>(base, p, b, g, n0, p.T);
			copyRows<DV, BN>(base + K, p.v + ((size_t)b * p.T * p.G + g) * p.vStride, p.G * p.vStride, n0, p.T);
			feed.commit(kvFull());
			const int stop = end(p, b, n0 + BN - 1); // of the queries that see a key of the tile
			for (int h = g * share; h < (g + 1) * share; h++) {
				const float2 *stat = p.stats + ((size_t)b * p.H + h) * Tp + threadIdx.x % 128 * 2;
				for (int m0 = n0; m0 < (MASKED ? stop : p.T); m0 += BQ) {
					feed.acquire(empty(ring.stage), ring.parity);
					copyRows<DK, BQ>(q(ring.stage), p.q + ((size_t)b * p.T * p.H + h) * DK, p.H * DK, m0, p.T);
					copyRows<DV, BQ>(dO(ring.stage), p.dO + ((size_t)b * p.T * p.H + h) * DV, p.H * DV, m0, p.T);
					if (threadIdx.x % 128 < BQ / 2) copyAsync16(stats(ring.stage) + threadIdx.x % 128 * 16, stat + m0, true);
					feed.commit(full(ring.stage));
					ring.next<STAGES>();
				}
			}
			queue.next(i, feed);
		}
		feed.settle();
		barrierArrive(kvFull());
	}

	// scores starts S = K·Qᵀ.
	__device__ void scores(float (&s)[BQ / 2], const uint32_t (&key)[HOLDK ? DK / 16 : 1][4], int stage) {
		uint32_t rows = swizzled(base + warpgroup() * 8192), queries = uniform(swizzled(q(stage)));
		pin(s);
		wgmmaFence();
#pragma unroll
		for (int i = 0; i < DK / 16; i++) {
			uint64_t query = descriptor(queries, i / 4 * BQ * 128 + i % 4 * 32);
			if constexpr (HOLDK) wgmma<0>(s, key[i], query, i > 0);
			else wgmma<0>(s, descriptor(rows, i / 4 * BN * 128 + i % 4 * 32), query, i > 0);
		}
	}

	// outputs starts dP = V·dOᵀ.
	__device__ void outputs(float (&dp)[BQ / 2], const uint32_t (&value)[HOLDV ? DV / 16 : 1][4], int stage) {
		uint32_t rows = swizzled(base + K + warpgroup() * 8192), outs = uniform(swizzled(dO(stage)));
		pin(dp);
		wgmmaFence();
#pragma unroll
		for (int i = 0; i < DV / 16; i++) {
			uint64_t out = descriptor(outs, i / 4 * BQ * 128 + i % 4 * 32);
			if constexpr (HOLDV) wgmma<0>(dp, value[i], out, i > 0);
			else wgmma<0>(dp, descriptor(rows, i / 4 * BN * 128 + i % 4 * 32), out, i > 0);
		}
	}

	// add starts d += a·rows, rows the Q or dO of a stage.
	template <int N> __device__ void add(float (&d)[N], const uint32_t (&a)[BQ / 16][4], uint32_t rows) {
		pin(d);
		wgmmaFence();
		uint32_t b = uniform(swizzled(rows, BQ * 128));
#pragma unroll
		for (int i = 0; i < BQ / 16; i++) wgmma<1>(d, a[i], descriptor(b, i * 2048), 1);
	}

	// end is behind the last query that sees the key at a position.
	__device__ static int end(const AttentionArgs<bf16> &p, int b, int key) {
		return MASKED ? p.ends[(size_t)b * p.T + min(key, p.T - 1)] : p.T;
	}

	// probabilities turns S into P; on the diagonal a key sees the queries from itself on. Masked kernels hide queries in
	// blocks at an edge alone.
	__device__ void probabilities(float (&s)[BQ / 2], int stage, float c, int diagonal, bool edge, const Ends &ends) {
		int t2 = threadIdx.x % 4 * 2, first = threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4 - diagonal * BQ - t2;
		if (MASKED && edge) {
			const int last[2] = {ends.row[0] - diagonal * BQ - t2, ends.row[1] - diagonal * BQ - t2};
#pragma unroll
			for (int e = 0; e < BQ / 2; e++)
				if (e / 4 * 8 + e % 2 < first + e % 4 / 2 * 8 || e / 4 * 8 + e % 2 >= last[e % 4 / 2]) s[e] = -INFINITY;
		} else if (!MASKED && diagonal < DIAGONAL) {
#pragma unroll
			for (int e = 0; e < BQ / 2; e++)
				if (e / 4 * 8 + e % 2 < first + e % 4 / 2 * 8) s[e] = -INFINITY;
		}
#pragma unroll
		for (int i = 0; i < BQ / 8; i++) {
			float x, y;
			asm volatile("{.reg .f32 a, b; ld.shared.v4.f32 {%0, a, %1, b}, [%2];}" : "=f"(x), "=f"(y) : "r"(stats(stage) + (8 * i + t2) * 8));
#pragma unroll
			for (int r = 0; r < 4; r++) s[4 * i + r] = fastExp2(fmaf(s[4 * i + r], c, r % 2 ? y : x));
		}
	}

	// gradients turns dP into P ∘ (dP - delta).
	__device__ void gradients(float (&dp)[BQ / 2], const float (&prob)[BQ / 2], int stage) {
#pragma unroll
		for (int i = 0; i < BQ / 8; i++) {
			float x, y;
			asm volatile("{.reg .f32 a, b; ld.shared.v4.f32 {a, %0, b, %1}, [%2];}" : "=f"(x), "=f"(y) : "r"(stats(stage) + (8 * i + threadIdx.x % 4 * 2) * 8));
#pragma unroll
			for (int r = 0; r < 4; r++) dp[4 * i + r] = prob[4 * i + r] * (dp[4 * i + r] - (r % 2 ? y : x));
		}
	}

	// gradients of a lean instance: the same from P as rounded for dV, so that S's registers are free.
	__device__ void gradients(float (&dp)[BQ / 2], const uint32_t (&prob)[BQ / 16][4], int stage) {
#pragma unroll
		for (int i = 0; i < BQ / 8; i++) {
			float x, y;
			asm volatile("{.reg .f32 a, b; ld.shared.v4.f32 {a, %0, b, %1}, [%2];}" : "=f"(x), "=f"(y) : "r"(stats(stage) + (8 * i + threadIdx.x % 4 * 2) * 8));
#pragma unroll
			for (int r = 0; r < 4; r += 2) {
				uint32_t pair = prob[i / 2][i % 2 * 2 + r / 2];
				dp[4 * i + r] = lowBF16(pair) * (dp[4 * i + r] - x);
				dp[4 * i + r + 1] = highBF16(pair) * (dp[4 * i + r + 1] - y);
			}
		}
	}

	// skip passes over blocks that this warpgroup's keys do not see.
	__device__ void skip(Ring &ring, int blocks) {
		for (; blocks > 0; blocks--) {
			barrierWait(full(ring.stage), ring.parity);
			barrierArrive(empty(ring.stage));
			ring.next<STAGES>();
		}
	}

	// advance waits for this warpgroup's next block, of the next head when m has reached mine.
	__device__ void advance(Ring &ring, int &m, int mine, int between) {
		if (++m == mine) m = 0, skip(ring, between);
		barrierWait(full(ring.stage), ring.parity);
	}

	// A Keeper leaves dS for attention_query_gradient, block after block of the queries that see a warpgroup's keys, in
	// each head.
	struct Keeper {
		uint4 *to;
		int query, b, h, key;
		__device__ Keeper(const AttentionArgs<bf16> &p, int b, int h, int key) : to(nullptr), b(b), h(h), key(key) {
			if (BQ == 64 && p.dS) head(p);
		}
		__device__ void head(const AttentionArgs<bf16> &p) {
			query = key;
			to = scoreGradients(p, b, h, query, key) + threadIdx.x % 128 / 32 * 128 + threadIdx.x % 32;
		}
		__device__ void keep(const AttentionArgs<bf16> &p, const uint32_t (&ds)[BQ / 16][4], int blocks) {
			if constexpr (BQ == 64) {
				if (!to) return;
#pragma unroll
				for (int e = 0; e < 4; e++) __stcs(to + e * 32, make_uint4(ds[e][0], ds[e][1], ds[e][2], ds[e][3]));
				query++;
				to += (MASKED && p.window > 0 ? bandOf(p) + 1 : query) * 512;
				if ((MASKED ? query == key + blocks : query * 64 >= p.T) && ++h < p.H) head(p); // after the group's last head nothing follows
			}
		}
	};

	__device__ void store(const AttentionArgs<bf16> &p, int b, int g, int t0, float (&dk)[DK / 2], float (&dv)[DV / 2]) {
		int t2 = threadIdx.x % 4 * 2;
		if (p.tied) {
#pragma unroll
			for (int e = 0; e < (DK < DV ? DK : DV) / 2; e++)
				if (e / 4 * 8 < p.P) dv[e] += dk[e] * p.scale;
		}
#pragma unroll
		for (int r = 0; r < 2; r++) {
			int t = t0 + 8 * r;
			size_t row = ((size_t)b * p.T + t) * p.G + g;
			storeRow<DV>(p.dV + row * p.vStride, dv, r, 1, t < p.T ? DV : 0);
			if (!p.tied) storeRow<DK>(p.dK + row * p.kStride, dk, r, p.scale, t < p.T ? p.P : 0);
			float *rope = p.ropeParts + (((size_t)b * p.G + g) * p.T + t) * p.R + t2 - p.P;
#pragma unroll
			for (int i = 0; i < DK / 8; i++)
				if (8 * i >= p.P && t < p.T) *(float2 *)(rope + 8 * i) = {dk[4 * i + 2 * r] * p.scale, dk[4 * i + 2 * r + 1] * p.scale};
		}
	}

	__device__ void consume(const AttentionArgs<bf16> &p) {
		int wg = warpgroup(), lane = threadIdx.x % 32, rowInTile = threadIdx.x / 32 * 16 + lane / 4, share = p.H / p.G;
		float c = p.scale * LOG2E;
		Ring ring = {0, 0};
		for (int i = 0;; i++) {
			Tile tile;
			barrierWait(kvFull(), i & 1);
			if (!tileAt(Queue::published(slots()), (p.T + BN - 1) / BN, p.B * p.G, p.chunk, false, tile)) break;
			int b = tile.head / p.G, g = tile.head % p.G, n0 = tile.block * BN;
			int blocks = (end(p, b, n0 + BN - 1) - n0 + BQ - 1) / BQ, before = min(wg * DIAGONAL, blocks), mine = blocks - before;
			// Behind the last query of the first warpgroup's keys it passes over the blocks of the second's, but where it still
			// holds a stage then, over one alone: for more the other stages do not suffice, and it computes them, as zeros.
			int after = MASKED && wg == 0 ? blocks - (end(p, b, n0 + 63) - n0 + BQ - 1) / BQ : 0;
			if (!LEAN && after > 1) after = 0;
			mine -= after;
			uint32_t key[HOLDK ? DK / 16 : 1][4], value[HOLDV ? DV / 16 : 1][4];
			if constexpr (HOLDK) {
#pragma unroll
				for (int e = 0; e < DK / 16; e++) fragment<BN>(key[e], base, threadIdx.x / 32 * 16, e);
			}
			if constexpr (HOLDV) {
#pragma unroll
				for (int e = 0; e < DV / 16; e++) fragment<BN>(value[e], base + K, threadIdx.x / 32 * 16, e);
			}
			if (HOLDK && HOLDV) barrierArrive(kvEmpty());
			skip(ring, mine > 0 ? before : share * blocks);
			if (mine <= 0) {
				if (!HOLDK || !HOLDV) barrierArrive(kvEmpty());
				continue;
			}

			float s[BQ / 2], dp[BQ / 2], dk[DK / 2], dv[DV / 2];
			uint32_t prob[BQ / 16][4], ds[BQ / 16][4];
			Keeper keeper(p, b, g * share, n0 / 64 + wg);
			const Ends ends(p, b, n0 + 64 * wg, rowInTile - 64 * wg);
#pragma unroll
			for (int e = 0; e < DK / 2; e++) dk[e] = 0;
#pragma unroll
			for (int e = 0; e < DV / 2; e++) dv[e] = 0;
			if constexpr (LEAN) {
				barrierWait(full(ring.stage), ring.parity);
				for (int n = share * mine, m = 0; n > 0; n--) {
					scores(s, key, ring.stage);
					wgmmaCommit();
					outputs(dp, value, ring.stage);
					wgmmaCommit();
					wgmmaWait<1>();
					pin(s);
					probabilities(s, ring.stage, c, m, MASKED && ends.edge(m), ends);
#pragma unroll
					for (int e = 0; e < BQ / 16; e++) packFragment(prob[e], s, e);
					wgmmaWait<0>();
					pin(dp);
					add(dv, prob, dO(ring.stage));
					wgmmaCommit();
					gradients(dp, prob, ring.stage);
#pragma unroll
					for (int e = 0; e < BQ / 16; e++) packFragment(ds[e], dp, e);
					add(dk, ds, q(ring.stage));
					wgmmaCommit();
					keeper.keep(p, ds, mine);
					wgmmaWait<0>();
					pin(dv);
					pin(dk);
					barrierArrive(empty(ring.stage));
					ring.next<STAGES>();
					if (n > 1) advance(ring, m, mine, after + before);
				}
			} else {
				barrierWait(full(ring.stage), ring.parity);
				scores(s, key, ring.stage);
				outputs(dp, value, ring.stage);
				wgmmaCommit();
				wgmmaWait<0>();
				pin(s);
				pin(dp);
				probabilities(s, ring.stage, c, 0, true, ends);
				gradients(dp, s, ring.stage);
#pragma unroll
				for (int e = 0; e < BQ / 16; e++) packFragment(prob[e], s, e), packFragment(ds[e], dp, e);
				int held = ring.stage, n = share * mine - 1, m = 0;
				ring.next<STAGES>();
				if (n > 0) advance(ring, m, mine, after + before);
				do {
#pragma unroll
					for (int edge = SPLIT ? 0 : 1; edge < 2; edge++)
						for (; n > 0 && (!SPLIT || ends.edge(m) == edge); n--) {
							scores(s, key, ring.stage);
							outputs(dp, value, ring.stage);
							wgmmaCommit();
							add(dv, prob, dO(held));
							add(dk, ds, q(held));
							wgmmaCommit();
							keeper.keep(p, ds, mine);
							wgmmaWait<1>();
							pin(s);
							pin(dp);
							probabilities(s, ring.stage, c, m, SPLIT ? edge : MASKED && ends.edge(m), ends);
							gradients(dp, s, ring.stage);
							pin(s);
							pin(dp);
							int current = ring.stage;
							ring.next<STAGES>();
							if (n > 1) barrierWait(full(ring.stage), ring.parity); // only its branch matters: it keeps ptxas from waiting for dk and dv before the exponentials
							wgmmaWait<0>();
							pin(dv);
							pin(dk);
							barrierArrive(empty(held));
							held = current;
							if (n > 1) advance(ring, m, mine, after + before);
#pragma unroll
							for (int e = 0; e < BQ / 16; e++) packFragment(prob[e], s, e), packFragment(ds[e], dp, e);
						}
				} while (SPLIT && n > 0);
				add(dv, prob, dO(held));
				add(dk, ds, q(held));
				wgmmaCommit();
				keeper.keep(p, ds, mine);
				wgmmaWait<0>();
				pin(dv);
				pin(dk);
				barrierArrive(empty(held));
			}
			if (MASKED) skip(ring, after);
			if (!HOLDK || !HOLDV) barrierArrive(kvEmpty());
			store(p, b, g, n0 + rowInTile, dk, dv);
		}
	}

	__device__ void run(const AttentionArgs<bf16> &p) {
		extern __shared__ char dynamic[];
		base = (smemAddress(dynamic) + 1023) & ~1023;
		if (threadIdx.x == 0) {
			barrierInit(kvFull(), 129);
			barrierInit(kvEmpty(), 128 * WGS);
			for (int s = 0; s < STAGES; s++) {
				barrierInit(full(s), 128);
				barrierInit(empty(s), 128 * WGS);
			}
			barrierInitFence();
		}
		__syncthreads();
		if (threadIdx.x >= WGS * 128) {
			fewerRegisters<40>();
			produce(p);
		} else {
			moreRegisters<232>();
			consume(p);
		}
	}
};
#endif

// Widths of key and value, queries a block, stages, operands held, lean, bytes of shared memory: as in
// attention_shape.go.
#define ATTENTION_BACKWARD_KEY(DK, DV, BQ, STAGES, HOLD, LEAN, BYTES) \
	extern "C" __global__ void __launch_bounds__(384, 1) ATTENTION(attention_backward_key_##DK##_##DV)(const __grid_constant__ AttentionArgs<bf16> p) { \
		ON_HOPPER(static_assert(BackwardKey<DK, DV, BQ, STAGES, HOLD, LEAN>::smem == BYTES); BackwardKey<DK, DV, BQ, STAGES, HOLD, LEAN>().run(p);) \
	}

ATTENTION_BACKWARD_KEY(64, 64, 64, 4, 3, false, 101472)
ATTENTION_BACKWARD_KEY(96, 64, 64, 4, 2, false, 150624)
ATTENTION_BACKWARD_KEY(96, 96, 64, 4, 0, false, 199776)
ATTENTION_BACKWARD_KEY(128, 96, 64, 4, 0, true, 199776)
ATTENTION_BACKWARD_KEY(128, 128, 64, 4, 0, true, 199776)
ATTENTION_BACKWARD_KEY(192, 128, 32, 4, 0, true, 165984)
