// The query gradient of causal attention on Hopper from the dS that attention_backward_key left: dQ = scale · Σ_j dS_j
// · K_j, a third of the products that attention_backward_query needs, for 4 bytes of traffic a score. A tile is 64
// queries per warpgroup against blocks of 64 keys, summed in one order, so that two runs agree to the bit.
#include "attention_tile.cuh"

#ifdef HOPPER

// transpose4 makes of 16 keys by 16 queries, as attention_backward_key holds them, the operand of 16 queries by 16
// keys.
__device__ __forceinline__ void transpose4(uint32_t (&a)[4], uint4 x) {
	auto turn = [](uint32_t &y, uint32_t x) { asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x)); };
	turn(a[0], x.x), turn(a[1], x.z), turn(a[2], x.y), turn(a[3], x.w);
}

template <int DK, int STAGES> struct QueryGradient {
	static constexpr int WGS = 3, BM = 64 * WGS, BN = 64, DS = 8192;
	static constexpr int K = (DK + 63) / 64 * BN * 128, bars = STAGES * (K + WGS * DS), smem = bars + 32 + 16 * STAGES + 1024;

	uint32_t base;
	__device__ uint32_t k(int s) { return base + s * (K + WGS * DS); }
	__device__ uint32_t dS(int s, int wg) { return k(s) + K + wg * DS; }
	__device__ uint32_t tileFull() { return base + bars; }
	__device__ uint32_t tileEmpty() { return base + bars + 8; }
	__device__ uint32_t slots() { return base + bars + 16; }
	__device__ uint32_t full(int s) { return base + bars + 32 + 16 * s; }
	__device__ uint32_t empty(int s) { return full(s) + 8; }

	// lowest is the first block of keys that a block of queries sees.
	__device__ static int lowest(const AttentionArgs<bf16> &p, int b, int query) { return MASKED ? firstKey(p, b, query * 64) / BN : 0; }

	__device__ void produce(const AttentionArgs<bf16> &p) {
		Ring ring = {0, 1};
		Feed feed;
		Queue queue;
		queue.start(slots());
		int blocks = (p.T + 63) / 64;
		for (int i = 0;; i++) {
			Tile tile;
			bool more = tileAt(queue.index, (p.T + BM - 1) / BM, p.B * p.H, p.chunk, true, tile);
			feed.acquire(tileEmpty(), (i & 1) ^ 1);
			queue.offer(tileFull(), more, p.queue);
			if (!more) break;
			int b = tile.head / p.H, h = tile.head % p.H, g = h / (p.H / p.G), first = tile.block * WGS;
			int low[WGS]; // where the warpgroups' queries end to see keys
#pragma unroll
			for (int wg = 0; wg < WGS; wg++) low[wg] = lowest(p, b, first + wg);
			const int stop = low[0];
			for (int j = min(first + WGS, blocks) - 1; j >= stop; j--) {
				feed.acquire(empty(ring.stage), ring.parity);
				copyKeys<DK, BN>(k(ring.stage), p, b, g, j * BN, p.T);
				if (Queue::leader()) {
					int from = max(j - first, 0), to = min(WGS, blocks - first); // warpgroups that see the keys
#pragma unroll
					for (int wg = 0; wg < WGS; wg++)
						if (MASKED && low[wg] > j) to = min(to, wg);
					barrierExpect(full(ring.stage), (to - from) * DS);
					for (int wg = from; wg < to; wg++) copyBulk(dS(ring.stage, wg), scoreGradients(p, b, h, first + wg, j), DS, full(ring.stage));
				}
				feed.commit(full(ring.stage));
				ring.next<STAGES>();
			}
			queue.next(i, feed);
		}
		feed.settle();
	}

	// load reads this warp's queries of a stage's dS.
	__device__ void load(uint32_t (&ds)[4][4], int stage) {
		uint32_t from = dS(stage, warpgroup()) + threadIdx.x % 128 * 16;
#pragma unroll
		for (int e = 0; e < 4; e++) {
			uint4 x;
			asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "r"(from + e * 2048));
			transpose4(ds[e], x);
		}
	}

	// add starts dQ += dS·K.
	__device__ void add(float (&dq)[DK / 2], const uint32_t (&ds)[4][4], int stage) {
		pin(dq);
		wgmmaFence();
		uint32_t key = uniform(swizzled(k(stage), BN * 128));
#pragma unroll
		for (int e = 0; e < 4; e++) wgmma<1>(dq, ds[e], descriptor(key, e * 2048), 1);
		wgmmaCommit();
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
		int wg = warpgroup(), rowInTile = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, blocks = (p.T + 63) / 64;
		Ring ring = {0, 0};
		for (int i = 0;; i++) {
			Tile tile;
			barrierWait(tileFull(), i & 1);
			if (!tileAt(Queue::published(slots()), (p.T + BM - 1) / BM, p.B * p.H, p.chunk, true, tile)) break;
			barrierArrive(tileEmpty());
			int b = tile.head / p.H, h = tile.head % p.H, first = tile.block * WGS;
			const int stop = lowest(p, b, first), low = lowest(p, b, first + wg); // the last blocks of the tile and of this warpgroup
			int mine = first + wg < blocks ? first + wg : stop - 1;
			skip(ring, min(first + WGS, blocks) - 1, mine); // only later warpgroups of the tile see them
			if (mine < stop) continue;

			float dq[DK / 2];
#pragma unroll
			for (int e = 0; e < DK / 2; e++) dq[e] = 0;
			uint32_t ds[4][4];
			barrierWait(full(ring.stage), ring.parity);
			load(ds, ring.stage);
			for (int j = mine;; j--) {
				int held = ring.stage;
				add(dq, ds, held);
				ring.next<STAGES>();
				uint32_t next[4][4];
				if (j > low) {
					barrierWait(full(ring.stage), ring.parity);
					load(next, ring.stage);
				}
				wgmmaWait<0>();
				pin(dq);
				release(empty(held));
				if (j == low) break;
#pragma unroll
				for (int e = 0; e < 16; e++) ds[e / 4][e % 4] = next[e / 4][e % 4];
			}
			if (MASKED) skip(ring, low, stop); // only earlier warpgroups of the tile see them
#pragma unroll
			for (int r = 0; r < 2; r++) {
				int t = first * 64 + rowInTile + 8 * r;
				storeRow<DK>(p.dQ + (((size_t)b * p.T + t) * p.H + h) * DK, dq, r, p.scale, t < p.T ? DK : 0);
			}
		}
	}

	__device__ void run(const AttentionArgs<bf16> &p) {
		extern __shared__ char dynamic[];
		base = (smemAddress(dynamic) + 1023) & ~1023;
		if (threadIdx.x == 0) {
			barrierInit(tileFull(), 1);
			barrierInit(tileEmpty(), 128 * WGS);
			for (int s = 0; s < STAGES; s++) {
				barrierInit(full(s), 129);
				barrierInit(empty(s), 4 * WGS);
			}
			barrierInitFence();
		}
		__syncthreads();
		if (threadIdx.x >= WGS * 128) produce(p);
		else consume(p);
	}
};
#endif

// Width of the key, stages, bytes of shared memory: as in attention_shape.go.
#define ATTENTION_QUERY_GRADIENT(DK, STAGES, BYTES) \
	extern "C" __global__ void __launch_bounds__(512, 1) ATTENTION(attention_query_gradient_##DK)(const __grid_constant__ AttentionArgs<bf16> p) { \
		ON_HOPPER(static_assert(QueryGradient<DK, STAGES>::smem == BYTES); QueryGradient<DK, STAGES>().run(p);) \
	}

ATTENTION_QUERY_GRADIENT(64, 5, 164976)
ATTENTION_QUERY_GRADIENT(96, 5, 205936)
ATTENTION_QUERY_GRADIENT(128, 5, 205936)
