// Attention of new tokens to a paged cache of factors, two a token, on Hopper. Keys are never made: of a token's two rows
// of B_K come raw scores with every head's query, which A_K weighs into one; and the weights of softmax times A_V are the
// rows by which B_V is summed. Heads stand on the rows of mma.sync, 16 a warp, and the rows of B on its columns, so that
// the two of a token lie in one thread. A cluster of blocks shares a token's cache and merges through shared memory.
#include "cluster.cuh"

struct FactorsPairArgs {
	const bf16 *q;        // [N, H, D]
	const bf16 *bk, *bv;  // [slots, 2, D] twice
	const bf16 *ak, *av;  // [slots, H, 2] twice
	bf16 *o;              // [N, H, D]
	const int *positions, *rows, *pages; // [N] twice, rows of pages [_, maxPages]; a row of -1 gets zeros
	int H, maxPages, pageShift, window, blocks; // of a cluster
	float scale;
};
static_assert(sizeof(FactorsPairArgs) == 96);

#ifdef HOPPER

template <int D> struct Factors {
	static constexpr int TILE = 32, ROWS = 2 * TILE, STEPS = D / 16, CHUNKS = D / 8, B = ROWS * D * 2;

	const FactorsPairArgs &p;
	char *shared;        // two stages of B_K, B_V, A_K and A_V
	const uint32_t base; // of it
	const int line, stage; // bytes from token to token of A, whose rows begin 8 banks apart, and of a stage
	int S, first;        // tokens from first to S - 1 are read

	__device__ Factors(const FactorsPairArgs &p, char *shared)
		: p(p), shared(shared), base(smemAddress(shared)), line((p.H * 4 + 15) / 16 * 16 + 32), stage(2 * B + 2 * TILE * line) {}

	// load starts the copies of a tile: rows of B with their 16-byte columns swizzled, rows of A as they are; zeros for
	// tokens that are not read.
	__device__ void load(int tile, int which, const int *pages) {
		const int s0 = tile * TILE;
		const size_t slot = ((size_t)pages[s0 >> p.pageShift] << p.pageShift) + (s0 & ((1 << p.pageShift) - 1));
		const uint32_t to = base + which * stage;
		const bf16 *bk = p.bk + slot * 2 * D, *bv = p.bv + slot * 2 * D, *ak = p.ak + slot * 2 * p.H, *av = p.av + slot * 2 * p.H;
		for (int i = threadIdx.x; i < ROWS * CHUNKS; i += blockDim.x) {
			const int row = i / CHUNKS, c = i % CHUNKS, s = s0 + row / 2;
			const bool read = s >= first && s < S;
			const uint32_t at = to + row * D * 2 + ((c ^ (row & 7)) << 4);
			copyAsync16(at, read ? bk + i * 8 : p.bk, read);
			copyAsync16(at + B, read ? bv + i * 8 : p.bv, read);
		}
		const int heads = p.H % 4 == 0 ? 4 : 1, each = p.H / heads; // heads that a copy of A brings, and copies for a token
		for (int i = threadIdx.x; i < TILE * each; i += blockDim.x) {
			const int row = i / each, s = s0 + row;
			const bool read = s >= first && s < S;
			const uint32_t at = to + 2 * B + row * line + i % each * heads * 4;
			const bf16 *k = read ? ak + i * heads * 2 : p.ak, *v = read ? av + i * heads * 2 : p.av;
			if (heads == 4) {
				copyAsync16(at, k, read);
				copyAsync16(at + TILE * line, v, read);
			} else {
				copyAsync4(at, k, read);
				copyAsync4(at + TILE * line, v, read);
			}
		}
		copyCommit();
	}

	__device__ static void copyAsync4(uint32_t dst, const void *src, bool valid) {
		asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(dst), "l"(src), "r"(valid ? 4 : 0) : "memory");
	}

	__device__ static float2 pair(uint32_t at) {
		uint32_t x;
		asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(at));
		return make_float2(lowBF16(x), highBF16(x));
	}

	__device__ void run() {
		const int size = p.blocks, rank = blockIdx.x % size, token = blockIdx.x / size, row = p.rows[token];
		const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, h0 = warp * 16 + g;
		S = row < 0 ? 0 : p.positions[token] + 1;
		first = p.window > 0 && S > p.window ? S - p.window : 0;
		const int *pages = p.pages + (size_t)max(row, 0) * p.maxPages;
		const int low = first / TILE, tiles = (S + TILE - 1) / TILE - low;
		const int from = low + tiles * rank / size, to = low + tiles * (rank + 1) / size;

		uint32_t q[STEPS][4];
#pragma unroll
		for (int i = 0; i < STEPS; i++)
#pragma unroll
			for (int e = 0; e < 4; e++) {
				const int h = h0 + e % 2 * 8, c = i * 16 + e / 2 * 8 + t * 2;
				q[i][e] = h < p.H ? *(const uint32_t *)(p.q + ((size_t)token * p.H + h) * D + c) : 0;
			}
		const float c = p.scale * .5f * LOG2E; // keys are halves of sums
		float o[D / 2] = {}, m[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
		// heads past the last read the last one's factors, and are not written
		const uint32_t head[2] = {min(h0, p.H - 1) * 4u, min(h0 + 8, p.H - 1) * 4u};

		if (from < to) load(from, 0, pages);
		for (int tile = from; tile < to; tile++) {
			const int which = (tile - from) % 2;
			if (tile + 1 < to) {
				load(tile + 1, which ^ 1, pages);
				copyWait<1>();
			} else {
				copyWait<0>();
			}
			__syncthreads();
			const uint32_t bk = base + which * stage, bv = bk + B, ak = bv + B + t * line, av = ak + TILE * line;
			float s[TILE] = {}; // [8 columns][4]: of four tokens, two raw scores of head g and two of head g + 8
#pragma unroll
			for (int i = 0; i < STEPS; i++)
#pragma unroll
				for (int n = 0; n < ROWS / 16; n++) {
					uint32_t b[4];
					const int at = n * 16 + lane / 16 * 8 + lane % 8;
					ldmatrix4(b, bk + at * D * 2 + (((i * 2 + lane / 8 % 2) ^ (at & 7)) << 4));
					mma16816(s + n * 8, q[i], b[0], b[1]);
					mma16816(s + n * 8 + 4, q[i], b[2], b[3]);
				}
			float x[2][TILE / 4]; // scores of tokens 4j + t
#pragma unroll
			for (int j = 0; j < TILE / 4; j++)
#pragma unroll
				for (int r = 0; r < 2; r++) {
					const float2 a = pair(ak + j * 4 * line + head[r]);
					x[r][j] = a.x * s[j * 4 + 2 * r] + a.y * s[j * 4 + 2 * r + 1];
				}
			const int at = tile * TILE + t;
			if (tile * TILE < first || tile * TILE + TILE > S) {
#pragma unroll
				for (int j = 0; j < TILE / 4; j++)
					if (at + 4 * j < first || at + 4 * j >= S) x[0][j] = x[1][j] = -INFINITY;
			}
			uint32_t w[2][TILE / 4]; // the weights times A_V
#pragma unroll
			for (int r = 0; r < 2; r++) {
				float most = x[r][0];
#pragma unroll
				for (int j = 1; j < TILE / 4; j++) most = fmaxf(most, x[r][j]);
				most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
				most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
				if ((most - m[r]) * c > slack) { // a tile that is read has a token that is read: most is finite
					const float shrink = fastExp2((m[r] - most) * c);
					m[r] = most, sum[r] *= shrink;
#pragma unroll
					for (int e = 0; e < D / 8; e++) o[e * 4 + 2 * r] *= shrink, o[e * 4 + 2 * r + 1] *= shrink;
				}
#pragma unroll
				for (int j = 0; j < TILE / 4; j++) {
					const float weight = fastExp2((x[r][j] - m[r]) * c);
					const float2 a = pair(av + j * 4 * line + head[r]);
					sum[r] += weight;
					w[r][j] = packBF16(weight * a.x, weight * a.y);
				}
			}
#pragma unroll
			for (int i = 0; i < ROWS / 16; i++) {
				const uint32_t a[4] = {w[0][2 * i], w[1][2 * i], w[0][2 * i + 1], w[1][2 * i + 1]};
#pragma unroll
				for (int n = 0; n < D / 16; n++) {
					uint32_t b[4];
					const int k = i * 16 + lane % 16;
					ldmatrix4Trans(b, bv + k * D * 2 + (((n * 2 + lane / 16) ^ (k & 7)) << 4));
					mma16816(o + n * 8, a, b[0], b[1]);
					mma16816(o + n * 8 + 4, a, b[2], b[3]);
				}
			}
			__syncthreads();
		}

		// Each block leaves what it summed, its maxima and its sums in its shared memory, and writes a share of the columns
		// of all.
		const int heads = blockDim.x / 2;
		float *mine = (float *)shared, *stats = mine + heads * D; // [heads, D], [heads, 2]
#pragma unroll
		for (int r = 0; r < 2; r++) {
			sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
			sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
			const int h = h0 + 8 * r;
#pragma unroll
			for (int n = 0; n < D / 8; n++) *(float2 *)(mine + h * D + n * 8 + t * 2) = {o[n * 4 + 2 * r], o[n * 4 + 2 * r + 1]};
			if (t == 0) stats[h * 2] = m[r], stats[h * 2 + 1] = sum[r];
		}
		cluster_sync();
		for (int i = rank * blockDim.x + threadIdx.x; i < p.H * D / 2; i += size * blockDim.x) {
			const int h = i / (D / 2), at = h * D + i % (D / 2) * 2;
			float most = -INFINITY, all = 0, x = 0, y = 0;
			for (int r = 0; r < size; r++) most = fmaxf(most, peer(stats + h * 2, r));
			for (int r = 0; r < size; r++) {
				const float by = peer(stats + h * 2 + 1, r) > 0 ? fastExp2((peer(stats + h * 2, r) - most) * c) : 0.f;
				all += by * peer(stats + h * 2 + 1, r);
				x += by * peer(mine + at, r), y += by * peer(mine + at + 1, r);
			}
			const float by = all > 0 ? .5f / all : 0.f; // values are halves of sums too
			*(uint32_t *)(p.o + (size_t)token * p.H * D + at) = packBF16(x * by, y * by);
		}
		cluster_sync(); // nobody leaves while its shared memory is read
	}

	__device__ static float peer(const float *place, int rank) {
		uint32_t there;
		float x;
		asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(place)), "r"(rank));
		asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(there));
		return x;
	}

	static constexpr float LOG2E = 1.4426950408889634f;
};
#endif

#define DECODE_FACTORS(D) \
	extern "C" __global__ void __launch_bounds__(256, 1) decode_factors_##D(const __grid_constant__ FactorsPairArgs a) { \
		ON_HOPPER(extern __shared__ __align__(16) char dynamic[]; Factors<D>(a, dynamic).run();) \
	}

DECODE_FACTORS(64)
DECODE_FACTORS(128)
