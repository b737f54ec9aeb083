// Causal attention forward on Hopper. A tile is 64 queries per warpgroup against blocks of BN keys, from the diagonal
// down to key 0; query t stands at key start + t. The products of block j-1 are issued before those of block j are
// waited for, so that the exponentials run under the tensor cores.
#include "attention_tile.cuh"

#ifdef HOPPER

// softmax turns scores into exp(s - m) with the row maxima m, which may lie behind by slack, and gives the factors for
// what was summed before.
template <int N> __device__ __forceinline__ void softmax(float (&s)[N], float (&m)[2], float (&sum)[2], float (&shrink)[2], float c) {
#pragma unroll
	for (int r = 0; r < 2; r++) {
		float a = fmaxf(s[2 * r], s[2 * r + 1]), b = fmaxf(s[2 * r + 4], s[2 * r + 5]);
#pragma unroll
		for (int j = 8; j < N; j += 8) {
			a = fmaxf(a, fmaxf(s[j + 2 * r], s[j + 2 * r + 1]));
			b = fmaxf(b, fmaxf(s[j + 2 * r + 4], s[j + 2 * r + 5]));
		}
		a = fmaxf(a, b);
		a = fmaxf(a, __shfl_xor_sync(~0u, a, 1));
		a = fmaxf(m[r], fmaxf(a, __shfl_xor_sync(~0u, a, 2)));
		const bool keep = (a - m[r]) * c <= slack;
		if (keep) a = m[r];
		shrink[r] = keep ? 1.f : fastExp2((m[r] - a) * c);
		m[r] = a;
		float shift = -a * c, x = 0, y = 0;
#pragma unroll
		for (int j = 0; j < N; j += 4) {
			x += s[j + 2 * r] = fastExp2(fmaf(s[j + 2 * r], c, shift));
			y += s[j + 2 * r + 1] = fastExp2(fmaf(s[j + 2 * r + 1], c, shift));
		}
		sum[r] = sum[r] * shrink[r] + (x + y);
	}
}

template <int DK, int DV, int WGS, int BN, int STAGES> struct Forward {
	static constexpr int BM = 64 * WGS;
	static constexpr int Q = (DK + 63) / 64 * BM * 128, K = (DK + 63) / 64 * BN * 128, V = (DV + 63) / 64 * BN * 128;
	static constexpr int bars = Q + STAGES * (K + V), smem = bars + 32 + 32 * STAGES + 1024;

	uint32_t base;
	__device__ uint32_t k(int s) { return base + Q + s * K; }
	__device__ uint32_t v(int s) { return base + Q + STAGES * K + s * V; }
	__device__ uint32_t qFull() { return base + bars; }
	__device__ uint32_t qEmpty() { return base + bars + 8; }
	__device__ uint32_t slots() { return base + bars + 16; }
	__device__ uint32_t kFull(int s) { return base + bars + 32 + 32 * s; }
	__device__ uint32_t kEmpty(int s) { return kFull(s) + 8; }
	__device__ uint32_t vFull(int s) { return kFull(s) + 16; }
	__device__ uint32_t vEmpty(int s) { return kFull(s) + 24; }

	__device__ void produce(const AttentionArgs<bf16> &p) {
		const int S = p.start + p.T;
		Ring kr = {0, 1}, vr = {0, 1};
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
			feed.commit(qFull());
			const int stop = MASKED ? firstKey(p, b, m0) / BN : 0;
			for (int j = (p.start + min(m0 + BM, p.T) - 1) / BN; j >= stop; j--) {
				feed.acquire(kEmpty(kr.stage), kr.parity);
				copyKeys<DK, BN>(k(kr.stage), p, b, g, j * BN, S);
				feed.commit(kFull(kr.stage));
				kr.next<STAGES>();
				feed.acquire(vEmpty(vr.stage), vr.parity);
				copyRows<DV, BN>(v(vr.stage), p.v + ((size_t)b * S * p.G + g) * p.vStride, p.G * p.vStride, j * BN, S);
				feed.commit(vFull(vr.stage));
				vr.next<STAGES>();
			}
			queue.next(i, feed);
		}
		feed.settle();
		barrierArrive(qFull());
	}

	__device__ void scores(float (&s)[BN / 2], uint32_t q, uint32_t key) {
		uint32_t a = swizzled(q), b = swizzled(key);
#pragma unroll
		for (int i = 0; i < DK / 16; i++)
			wgmma<0>(s, descriptor(a, i / 4 * BM * 128 + i % 4 * 32), descriptor(b, i / 4 * BN * 128 + i % 4 * 32), i > 0);
	}

	__device__ void values(float (&o)[DV / 2], const uint32_t (&probs)[BN / 16][4], uint32_t value) {
		uint32_t b = swizzled(value, BN * 128);
#pragma unroll
		for (int i = 0; i < BN / 16; i++) wgmma<1>(o, probs[i], descriptor(b, i * 2048), 1);
	}

	// hide takes out of block j what lies before the first keys of a lane's two queries.
	__device__ static void hide(float (&s)[BN / 2], const int (&firsts)[2], int j) {
		const int at = j * BN + threadIdx.x % 4 * 2, first[2] = {firsts[0] - at, firsts[1] - at};
#pragma unroll
		for (int e = 0; e < BN / 2; e++)
			if (e / 4 * 8 + e % 2 < first[e % 4 / 2]) s[e] = -INFINITY;
	}

	// skip passes over the blocks from one down to another, which this warpgroup's queries do not see.
	__device__ void skip(Ring &kr, Ring &vr, int from, int to) {
		for (; from > to; from--) {
			barrierWait(kFull(kr.stage), kr.parity);
			release(kEmpty(kr.stage));
			kr.next<STAGES>();
			barrierWait(vFull(vr.stage), vr.parity);
			release(vEmpty(vr.stage));
			vr.next<STAGES>();
		}
	}

	__device__ void consume(const AttentionArgs<bf16> &p) {
		int wg = warpgroup(), lane = threadIdx.x % 32, rowInTile = threadIdx.x / 32 * 16 + lane / 4;
		uint32_t q = base + wg * 8192;
		float c = p.scale * LOG2E;
		Ring kr = {0, 0}, vr = {0, 0};
		for (int i = 0;; i++) {
			Tile tile;
			barrierWait(qFull(), i & 1);
			if (!tileAt(Queue::published(slots()), (p.T + BM - 1) / BM, p.B * p.H, p.chunk, true, tile)) break;
			int b = tile.head / p.H, h = tile.head % p.H, m0 = tile.block * BM;
			int last = (p.start + min(m0 + BM, p.T) - 1) / BN, j = (p.start + min(m0 + 64 * wg + 64, p.T) - 1) / BN;
			// the last blocks of the tile and of this warpgroup, and the key before which nothing is hidden from any of its queries
			const int stop = MASKED ? firstKey(p, b, m0) / BN : 0, mine = MASKED ? firstKey(p, b, m0 + 64 * wg) / BN : 0;
			const int firsts[2] = {MASKED ? firstKey(p, b, m0 + rowInTile) : 0, MASKED ? firstKey(p, b, m0 + rowInTile + 8) : 0};
			const int hidden = MASKED ? firstKey(p, b, m0 + 64 * wg + 63) : 0;
			if (m0 + 64 * wg >= p.T) j = stop - 1;
			skip(kr, vr, last, j); // only later warpgroups of the tile see them
			if (j < stop) {
				barrierArrive(qEmpty());
				continue;
			}

			float s[BN / 2], o[DV / 2], m[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, shrink[2];
			uint32_t probs[BN / 16][4];
#pragma unroll
			for (int e = 0; e < DV / 2; e++) o[e] = 0;
			barrierWait(kFull(kr.stage), kr.parity);
			pin(s);
			wgmmaFence();
			scores(s, q, k(kr.stage));
			wgmmaCommit();
			wgmmaWait<0>();
			pin(s);
			release(kEmpty(kr.stage));
			kr.next<STAGES>();
			int row = p.start + m0 + rowInTile - j * BN - lane % 4 * 2; // the key columns 8i+e of this lane up to here are seen
#pragma unroll
			for (int e = 0; e < BN / 2; e++)
				if (e / 4 * 8 + e % 2 > row + e % 4 / 2 * 8) s[e] = -INFINITY;
			if (MASKED && j * BN < hidden) hide(s, firsts, j);
			softmax(s, m, sum, shrink, c);
#pragma unroll
			for (int e = 0; e < BN / 16; e++) packFragment(probs[e], s, e);
			
			if (j > mine) barrierWait(kFull(kr.stage), kr.parity);
#pragma unroll
			for (int edge = MASKED ? 0 : 1; edge < 2; edge++) { // blocks of which nothing is hidden have a loop of their own
				const int to = edge ? mine : max(mine, (hidden + BN - 1) / BN);
				for (; j > to; j--) {
					barrierWait(vFull(vr.stage), vr.parity);
					pin(s);
					pin(o);
					wgmmaFence();
					scores(s, q, k(kr.stage));
					wgmmaCommit();
					values(o, probs, v(vr.stage));
					wgmmaCommit();
					wgmmaWait<1>();
					pin(s);
					release(kEmpty(kr.stage));
					kr.next<STAGES>();
					if (MASKED && edge) hide(s, firsts, j - 1);
					softmax(s, m, sum, shrink, c);
					pin(s);
					if (j > mine + 1) barrierWait(kFull(kr.stage), kr.parity); // here its branch also keeps ptxas from waiting for o before the softmax
					wgmmaWait<0>();
					pin(o);
					release(vEmpty(vr.stage));
					vr.next<STAGES>();
					if (__any_sync(~0u, shrink[0] != 1.f || shrink[1] != 1.f))
#pragma unroll
						for (int e = 0; e < DV / 2; e++) o[e] *= shrink[e % 4 / 2];
#pragma unroll
					for (int e = 0; e < BN / 16; e++) packFragment(probs[e], s, e);
				}
			}
			barrierArrive(qEmpty());
			barrierWait(vFull(vr.stage), vr.parity);
			pin(o);
			wgmmaFence();
			values(o, probs, v(vr.stage));
			wgmmaCommit();
			wgmmaWait<0>();
			pin(o);
			release(vEmpty(vr.stage));
			vr.next<STAGES>();
			if (MASKED) skip(kr, vr, mine, stop); // only earlier warpgroups of the tile see them

#pragma unroll
			for (int r = 0; r < 2; r++) {
				int t = m0 + rowInTile + 8 * r;
				float total = sum[r] + __shfl_xor_sync(~0u, sum[r], 1);
				total += __shfl_xor_sync(~0u, total, 2);
				storeRow<DV>(p.o + (((size_t)b * p.T + t) * p.H + h) * DV, o, r, 1 / total, t < p.T ? DV : 0);
				if (lane % 4 == 0 && t < p.T) p.lse[((size_t)b * p.H + h) * p.T + t] = m[r] * p.scale + __log2f(total) * LN2;
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
				barrierInit(kFull(s), 128);
				barrierInit(kEmpty(s), 4 * WGS);
				barrierInit(vFull(s), 128);
				barrierInit(vEmpty(s), 4 * WGS);
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

// Widths of key and value, warpgroups, keys a block, stages, bytes of shared memory: as in attention_shape.go.
#define ATTENTION_FORWARD(DK, DV, WGS, BN, STAGES, BYTES) \
	extern "C" __global__ void __launch_bounds__(WGS * 128 + 128, 1) ATTENTION(attention_forward_##DK##_##DV)(const __grid_constant__ AttentionArgs<bf16> p) { \
		ON_HOPPER(static_assert(Forward<DK, DV, WGS, BN, STAGES>::smem == BYTES); Forward<DK, DV, WGS, BN, STAGES>().run(p);) \
	}

ATTENTION_FORWARD(64, 64, 3, 128, 4, 156832)
ATTENTION_FORWARD(96, 64, 3, 128, 3, 197760)
ATTENTION_FORWARD(96, 96, 2, 128, 3, 230528)
ATTENTION_FORWARD(128, 96, 2, 128, 3, 230528)
ATTENTION_FORWARD(128, 128, 2, 128, 3, 230528)
ATTENTION_FORWARD(192, 128, 2, 128, 2, 214112)
