// What the Hopper attention kernels share: the order of the tiles, the copies into swizzled shared memory, and the rows
// on their way out. A block is two or three warpgroups that compute and a last one that copies ahead of them;
// setmaxnreg then moves registers from that one to the others.
#pragma once
#include "attention_args.cuh"

// The files *_masked.cu compile the kernels a second time with MASKED, for attention in a window or within documents.
#ifndef MASKED
#define MASKED false
#endif
#if MASKED
#define ATTENTION(kernel) kernel##_masked
#else
#define ATTENTION(kernel) kernel
#endif

#ifdef HOPPER

// A Ring walks the stages of a circular buffer; the parity flips each time round.
struct Ring {
	int stage;
	uint32_t parity;
	template <int STAGES> __device__ __forceinline__ void next() {
		if (++stage == STAGES) stage = 0, parity ^= 1;
	}
};

struct Tile {
	int block, head;
};

// tileAt unfolds the index of a tile: chunks of heads one after the other, in each the longest tiles first.
__device__ __forceinline__ bool tileAt(int index, int blocks, int heads, int chunk, bool lastFirst, Tile &t) {
	if (index < 0 || index >= blocks * heads) return false;
	int first = index / (chunk * blocks) * chunk;
	int rest = index - first * blocks, size = min(chunk, heads - first);
	t.block = lastFirst ? blocks - 1 - rest / size : rest / size;
	t.head = first + rest % size;
	return true;
}

// A Feed is the copying warpgroup's side of the barriers. wgmma reads shared memory through the asynchronous proxy, so
// each thread waits for its own copies and fences before it arrives, two copies late, so that three are under way.
struct Feed {
	uint32_t older = 0, newer = 0; // barriers still to be told

	__device__ __forceinline__ void tell(uint32_t bar) {
		if (!bar) return;
		proxyFence();
		barrierArrive(bar);
	}
	// settle tells of everything copied so far.
	__device__ __forceinline__ void settle() {
		copyWait<1>();
		tell(older);
		copyWait<0>();
		tell(newer);
		older = newer = 0;
	}
	// acquire waits until a buffer is free again, owing nothing meanwhile; a warp decides as one.
	__device__ __forceinline__ void acquire(uint32_t bar, uint32_t parity) {
		if (__all_sync(~0u, barrierTest(bar, parity))) return;
		settle();
		barrierWait(bar, parity);
	}
	// commit closes a buffer's copies; bar hears of it when they have landed.
	__device__ __forceinline__ void commit(uint32_t bar) {
		copyCommit();
		copyWait<2>();
		tell(older);
		older = newer;
		newer = bar;
	}
};

// A Queue deals tiles to the persistent blocks: the first by the block's number, then by a counter in device memory.
// The copying warpgroup takes an index, and hands it to the others through shared memory under the barrier of the tile.
struct Queue {
	uint32_t slots; // 3 words: the index for the computing warpgroups, and two in turn for the copying one
	int index, taken;

	__device__ __forceinline__ static bool leader() { return threadIdx.x % 128 == 0; }
	__device__ __forceinline__ void start(uint32_t at) { slots = at, index = blockIdx.x; }
	// offer publishes the current index (or -1 for the end) and takes the next one ahead of its need.
	__device__ __forceinline__ void offer(uint32_t bar, bool more, int *counter) {
		if (!leader()) return;
		asm volatile("st.shared.u32 [%0], %1;" ::"r"(slots), "r"(more ? index : -1) : "memory");
		barrierArrive(bar);
		if (more) taken = gridDim.x + atomicAdd(counter, 1);
		else if (atomicAdd(counter + 1, 1) == gridDim.x - 1) counter[0] = counter[1] = 0; // the last block is done
	}
	// next brings every copying thread the index taken. They settle first: one that waits here must owe nothing to the
	// consumers that the others wait for.
	__device__ __forceinline__ void next(int i, Feed &feed) {
		feed.settle();
		__syncwarp();
		uint32_t slot = slots + 4 + i % 2 * 4;
		if (leader()) asm volatile("st.shared.u32 [%0], %1;" ::"r"(slot), "r"(taken) : "memory");
		asm volatile("bar.sync 1, 128;" ::: "memory");
		asm volatile("ld.shared.u32 %0, [%1];" : "=r"(index) : "r"(slot) : "memory");
	}
	__device__ __forceinline__ static int published(uint32_t at) {
		int index;
		asm volatile("ld.shared.u32 %0, [%1];" : "=r"(index) : "r"(at) : "memory");
		return uniform(index);
	}
};

// scoreGradients is where dS of block (query, key) of a head lies, for a warp of the keys and a warp of the queries:
// rows of blocks from the first key to the diagonal, 8 KB a block, in it 16 keys by 16 queries a warp of each, 16 bytes
// a lane. In a window they are rows of as many blocks as see a block of keys, and one more, from the diagonal on.
__device__ __forceinline__ int bandOf(const AttentionArgs<bf16> &p) { return min((p.window + 62) / 64 + 2, (p.T + 63) / 64); }
__device__ __forceinline__ uint4 *scoreGradients(const AttentionArgs<bf16> &p, int b, int h, int query, int key) {
	int blocks = (p.T + 63) / 64;
	if (MASKED && p.window > 0)
		return p.dS + (((size_t)b * p.H + h) * blocks * bandOf(p) + query * bandOf(p) + query - key) * 512;
	return p.dS + (((size_t)b * p.H + h) * (blocks * (blocks + 1) / 2) + query * (query + 1) / 2 + key) * 512;
}

// release tells that this warp has read a buffer. What a thread itself has read, and not wgmma on its behalf, it tells
// of itself with barrierArrive: racecheck takes no account of __syncwarp here.
__device__ __forceinline__ void release(uint32_t bar) {
	__syncwarp();
	if (threadIdx.x % 32 == 0) barrierArrive(bar);
}

// copyColumns brings ROWS rows of 64 columns into a swizzled tile of 128-byte rows, one warpgroup, zeros past row T.
// src is this thread's column of row 0: eight threads share a row.
template <int ROWS> __device__ __forceinline__ void copyColumns(uint32_t dst, const bf16 *src, int stride, int row0, int T) {
	int r = threadIdx.x % 128 / 8, c = threadIdx.x % 8, left = T - row0 - r;
	const bf16 *s = src + (size_t)(row0 + r) * stride;
	dst += r * 128 + ((c ^ (r & 7)) << 4);
#pragma unroll
	for (int i = 0; i < ROWS; i += 16) {
		copyAsync16(dst + i * 128, left > i ? s : src, left > i);
		s += 16 * stride;
	}
}

// copyRows brings ROWS rows of COLS columns, as tiles of 64 columns one after the other.
template <int COLS, int ROWS> __device__ __forceinline__ void copyRows(uint32_t dst, const bf16 *src, int stride, int row0, int T) {
#pragma unroll
	for (int tile = 0; tile < (COLS + 63) / 64; tile++) {
		int col = tile * 64 + threadIdx.x % 8 * 8;
		if (col < COLS) copyColumns<ROWS>(dst + tile * ROWS * 128, src + col, stride, row0, T);
	}
}

// copyKeys composes rows of the S keys of group g: P columns of K, then KRope.
template <int COLS, int ROWS> __device__ __forceinline__ void copyKeys(uint32_t dst, const AttentionArgs<bf16> &p, int b, int g, int row0, int S) {
	const bf16 *k = p.k + ((size_t)b * S * p.G + g) * p.kStride, *rope = p.kRope + (size_t)b * S * p.R;
#pragma unroll
	for (int tile = 0; tile < (COLS + 63) / 64; tile++) {
		int col = tile * 64 + threadIdx.x % 8 * 8;
		if (col < COLS) copyColumns<ROWS>(dst + tile * ROWS * 128, col < p.P ? k + col : rope + col - p.P, col < p.P ? p.G * p.kStride : p.R, row0, S);
	}
}

// fragment reads the operand rows [row0, row0+16), columns [16k, 16k+16) of swizzled tiles of ROWS rows.
template <int ROWS> __device__ __forceinline__ void fragment(uint32_t (&a)[4], uint32_t tiles, int row0, int k) {
	int lane = threadIdx.x % 32, row = row0 + lane % 16, c = k % 4 * 2 + lane / 16;
	ldmatrix4(a, tiles + k / 4 * ROWS * 128 + row * 128 + ((c ^ (row & 7)) << 4));
}

// pin keeps the compiler from moving reads or writes of wgmma's registers across this point.
template <int N> __device__ __forceinline__ void pin(float (&d)[N]) {
#pragma unroll
	for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}

// packFragment makes the operand fragment of columns [16k, 16k+16) from an accumulator.
template <int N> __device__ __forceinline__ void packFragment(uint32_t (&a)[4], const float (&d)[N], int k) {
#pragma unroll
	for (int i = 0; i < 4; i++) a[i] = packBF16(d[8 * k + 2 * i], d[8 * k + 2 * i + 1]);
}

// storeRow writes COLS columns of one accumulator row (half 0: row g, half 1: row g+8) as bf16: the four lanes of a row
// first exchange their pairs, so that each writes 16 bytes. Columns from limit on are left alone.
template <int COLS, int N> __device__ __forceinline__ void storeRow(bf16 *row, const float (&d)[N], int half, float by, int limit) {
	int t = threadIdx.x % 4;
#pragma unroll
	for (int j = 0; j < COLS / 8; j += 4) {
		uint32_t w[4];
#pragma unroll
		for (int i = 0; i < 4; i++) w[i] = packBF16(d[4 * (j + i) + 2 * half] * by, d[4 * (j + i) + 2 * half + 1] * by);
#pragma unroll
		for (int i = 0; i < 4; i += 2) {
			uint32_t x = __shfl_xor_sync(~0u, t & 1 ? w[i] : w[i + 1], 1);
			if (t & 1) w[i] = x; else w[i + 1] = x;
		}
#pragma unroll
		for (int i = 0; i < 2; i++) {
			uint32_t x = __shfl_xor_sync(~0u, t & 2 ? w[i] : w[i + 2], 2);
			if (t & 2) w[i] = x; else w[i + 2] = x;
		}
		if ((j + t) * 8 < limit) *(uint4 *)(row + (j + t) * 8) = make_uint4(w[0], w[1], w[2], w[3]);
	}
}

#endif
