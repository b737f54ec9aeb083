// Causal attention for any card from sm_80 on and any widths that are multiples of 16 up to 256: mma.sync on tiles of
// 64 queries by 64 keys, four warps of 16 rows. Widths are run-time; blockIdx.z picks the CHUNK output columns that a
// block sums, so that registers do not grow with them (scores are recomputed for each chunk).
#include "attention_args.cuh"

#ifndef MASKED // attention_portable_masked.cu compiles the same kernels with it
#define MASKED false
#endif

constexpr int TILE = 64, THREADS = 128, CHUNK = 64;

// pitch in elements of a shared row: 16 bytes of padding keep ldmatrix free of bank conflicts.
__host__ __device__ __forceinline__ constexpr int pitch(int cols) { return cols + 8; }

// Bytes of shared memory for keys of D columns and values of Dv, as in attention_shape.go: of the forward kernel, and
// of both that give gradients, where dK and dV need the statistics of TILE queries besides.
constexpr int forwardBytes(int D) { return TILE * 2 * (2 * pitch(D) + pitch(CHUNK)); }
constexpr int gradientBytes(int D, int Dv) { return TILE * 2 * (2 * pitch(D) + 2 * pitch(Dv)); }
constexpr int statisticsBytes() { return TILE * sizeof(float2); }
static_assert(forwardBytes(64) == 27648 && forwardBytes(256) == 76800);
static_assert(gradientBytes(64, 64) == 36864 && gradientBytes(256, 128) == 102400);
static_assert(statisticsBytes() == 512);

// loadRows brings 64 rows of cols columns, zeros past row T.
__device__ __forceinline__ void loadRows(bf16 *dst, int ld, const bf16 *src, int stride, int row0, int T, int cols) {
	int perRow = cols / 8;
	for (int i = threadIdx.x; i < TILE * perRow; i += THREADS) {
		int r = i / perRow, c = i % perRow * 8;
		copyAsync16(smemAddress(dst + r * ld + c), row0 + r < T ? src + (size_t)(row0 + r) * stride + c : src, row0 + r < T);
	}
}

// loadKeys composes rows of the S keys of group g.
__device__ __forceinline__ void loadKeys(bf16 *dst, int ld, const AttentionArgs<bf16> &p, int b, int g, int row0, int S) {
	loadRows(dst, ld, p.k + ((size_t)b * S * p.G + g) * p.kStride, p.G * p.kStride, row0, S, p.P);
	if (p.R > 0) loadRows(dst + p.P, ld, p.kRope + (size_t)b * S * p.R, p.R, row0, S, p.R);
}

// products computes d [16,64] = rows of a (this warp's 16) times rows of b, over cols columns.
__device__ __forceinline__ void products(float (&d)[32], const bf16 *a, const bf16 *b, int ld, int cols) {
	int lane = threadIdx.x % 32;
#pragma unroll
	for (int i = 0; i < 32; i++) d[i] = 0;
	uint32_t x[4], y[4], rows = smemAddress(a + lane % 16 * ld + lane / 16 * 8), keys = smemAddress(b + (lane / 16 * 8 + lane % 8) * ld + lane / 8 % 2 * 8);
#pragma unroll 4
	for (int k = 0; k < cols; k += 16) {
		ldmatrix4(x, rows + k * 2);
#pragma unroll
		for (int j = 0; j < 4; j++) {
			ldmatrix4(y, keys + (j * 16 * ld + k) * 2);
			mma16816(d + 8 * j, x, y[0], y[1]);
			mma16816(d + 8 * j + 4, x, y[2], y[3]);
		}
	}
}

// addColumns adds a [16,64] · b [64, cols] to d, cols <= CHUNK; a is an accumulator, rounded to bf16.
__device__ __forceinline__ void addColumns(float (&d)[CHUNK / 2], const float (&a)[32], const bf16 *b, int ld, int cols) {
	int lane = threadIdx.x % 32;
	uint32_t rows = smemAddress(b + lane % 16 * ld + lane / 16 * 8);
#pragma unroll
	for (int k = 0; k < 4; k++) {
		uint32_t x[4], y[4];
#pragma unroll
		for (int i = 0; i < 4; i++) x[i] = packBF16(a[8 * k + 2 * i], a[8 * k + 2 * i + 1]);
#pragma unroll
		for (int j = 0; j < CHUNK / 16; j++) {
			if (16 * j >= cols) break;
			ldmatrix4Trans(y, rows + (k * 16 * ld + j * 16) * 2);
			mma16816(d + 8 * j, x, y[0], y[1]);
			mma16816(d + 8 * j + 4, x, y[2], y[3]);
		}
	}
}

// storeColumns writes one accumulator row (half 0: row g, half 1: row g+8), columns below limit.
__device__ __forceinline__ void storeColumns(bf16 *row, const float (&d)[CHUNK / 2], int half, float by, int limit) {
#pragma unroll
	for (int j = 0; j < CHUNK / 8; j++)
		if (8 * j < limit) *(uint32_t *)(row + 8 * j + threadIdx.x % 4 * 2) = packBF16(d[4 * j + 2 * half] * by, d[4 * j + 2 * half + 1] * by);
}

// attention_forward_portable: grid [T/64, H·B, Dv/CHUNK]; shared memory 64 rows of q, k and a chunk of v.
extern "C" __global__ void __launch_bounds__(THREADS) attention_forward_portable(const __grid_constant__ AttentionArgs<bf16> p) {
	extern __shared__ __align__(16) bf16 rows[];
	int D = p.P + p.R, ld = pitch(D), lv = pitch(CHUNK), col0 = blockIdx.z * CHUNK, cols = min(CHUNK, p.Dv - col0);
	bf16 *q = rows, *k = q + TILE * ld, *v = k + TILE * ld;
	int block = gridDim.x - 1 - blockIdx.x, m0 = block * TILE, b = blockIdx.y / p.H, h = blockIdx.y % p.H, g = h / (p.H / p.G);
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = warp * 16 + lane / 4;
	float c = p.scale * LOG2E, s[32], o[CHUNK / 2] = {}, m[2] = {-INFINITY, -INFINITY}, sum[2] = {};
	loadRows(q, ld, p.q + ((size_t)b * p.T * p.H + h) * D, p.H * D, m0, p.T, D);
	const int last = block + p.start / TILE, S = p.start + p.T;
	const int stop = MASKED ? firstKey(p, b, m0) / TILE : 0;
	for (int j = last; j >= stop; j--) {
		loadKeys(k, ld, p, b, g, j * TILE, S);
		loadRows(v, lv, p.v + ((size_t)b * S * p.G + g) * p.vStride + col0, p.G * p.vStride, j * TILE, S, cols);
		copyCommit();
		copyWait<0>();
		__syncthreads();
		products(s, q + warp * 16 * ld, k, ld, D);
		float shrink[2];
#pragma unroll
		for (int r = 0; r < 2; r++) {
			float top = m[r];
#pragma unroll
			for (int e = 0; e < 32; e++) {
				if (e % 4 / 2 != r) continue;
				if (j == last && e / 4 * 8 + lane % 4 * 2 + e % 2 > row + 8 * r) s[e] = -INFINITY;
				if (MASKED && j * TILE + e / 4 * 8 + lane % 4 * 2 + e % 2 < firstKey(p, b, m0 + row + 8 * r)) s[e] = -INFINITY;
				top = fmaxf(top, s[e]);
			}
			top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
			top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
			shrink[r] = fastExp2((m[r] - top) * c);
			m[r] = top;
			sum[r] *= shrink[r];
#pragma unroll
			for (int e = 0; e < 32; e++)
				if (e % 4 / 2 == r) sum[r] += s[e] = fastExp2(fmaf(s[e], c, -top * c));
		}
#pragma unroll
		for (int e = 0; e < CHUNK / 2; e++) o[e] *= shrink[e % 4 / 2];
		addColumns(o, s, v, lv, cols);
		__syncthreads();
	}
#pragma unroll
	for (int r = 0; r < 2; r++) {
		int t = m0 + row + 8 * r;
		float total = sum[r] + __shfl_xor_sync(~0u, sum[r], 1);
		total += __shfl_xor_sync(~0u, total, 2);
		storeColumns(p.o + (((size_t)b * p.T + t) * p.H + h) * p.Dv + col0, o, r, 1 / total, t < p.T ? cols : 0);
		if (lane % 4 == 0 && t < p.T && blockIdx.z == 0) p.lse[((size_t)b * p.H + h) * p.T + t] = m[r] * p.scale + __log2f(total) * LN2;
	}
}

// attention_backward_query_portable: grid [T/64, H·B, D/CHUNK]; shared memory 64 rows of q, k, dO, v.
extern "C" __global__ void __launch_bounds__(THREADS) attention_backward_query_portable(const __grid_constant__ AttentionArgs<bf16> p) {
	extern __shared__ __align__(16) bf16 rows[];
	int D = p.P + p.R, ld = pitch(D), lv = pitch(p.Dv), col0 = blockIdx.z * CHUNK, cols = min(CHUNK, D - col0);
	bf16 *q = rows, *k = q + TILE * ld, *dO = k + TILE * ld, *v = dO + TILE * lv;
	int block = gridDim.x - 1 - blockIdx.x, m0 = block * TILE, b = blockIdx.y / p.H, h = blockIdx.y % p.H, g = h / (p.H / p.G);
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = warp * 16 + lane / 4;
	float c = p.scale * LOG2E, s[32], dp[32], dq[CHUNK / 2] = {};
	float2 stat[2];
#pragma unroll
	for (int r = 0; r < 2; r++) stat[r] = p.stats[(size_t)blockIdx.y * paddedT(p.T) + m0 + row + 8 * r];
	loadRows(q, ld, p.q + ((size_t)b * p.T * p.H + h) * D, p.H * D, m0, p.T, D);
	loadRows(dO, lv, p.dO + ((size_t)b * p.T * p.H + h) * p.Dv, p.H * p.Dv, m0, p.T, p.Dv);
	const int stop = MASKED ? firstKey(p, b, m0) / TILE : 0;
	for (int j = block; j >= stop; j--) {
		loadKeys(k, ld, p, b, g, j * TILE, p.T);
		loadRows(v, lv, p.v + ((size_t)b * p.T * p.G + g) * p.vStride, p.G * p.vStride, j * TILE, p.T, p.Dv);
		copyCommit();
		copyWait<0>();
		__syncthreads();
		products(s, q + warp * 16 * ld, k, ld, D);
		products(dp, dO + warp * 16 * lv, v, lv, p.Dv);
#pragma unroll
		for (int e = 0; e < 32; e++) {
			int r = e % 4 / 2;
			if (j == block && e / 4 * 8 + lane % 4 * 2 + e % 2 > row + 8 * r) s[e] = -INFINITY;
			if (MASKED && j * TILE + e / 4 * 8 + lane % 4 * 2 + e % 2 < firstKey(p, b, m0 + row + 8 * r)) s[e] = -INFINITY;
			s[e] = fastExp2(fmaf(s[e], c, stat[r].x)) * (dp[e] - stat[r].y);
		}
		addColumns(dq, s, k + col0, ld, cols);
		__syncthreads();
	}
#pragma unroll
	for (int r = 0; r < 2; r++) {
		int t = m0 + row + 8 * r;
		storeColumns(p.dQ + (((size_t)b * p.T + t) * p.H + h) * D + col0, dq, r, p.scale, t < p.T ? cols : 0);
	}
}

// attention_backward_key_portable: grid [T/64, G·B, max(D, Dv)/CHUNK]; shared memory 64 rows of k, q, v, dO, and 64
// statistics.
extern "C" __global__ void __launch_bounds__(THREADS) attention_backward_key_portable(const __grid_constant__ AttentionArgs<bf16> p) {
	extern __shared__ __align__(16) bf16 rows[];
	int D = p.P + p.R, ld = pitch(D), lv = pitch(p.Dv), col0 = blockIdx.z * CHUNK, share = p.H / p.G;
	int colsK = max(min(CHUNK, D - col0), 0), colsV = max(min(CHUNK, p.Dv - col0), 0);
	bf16 *k = rows, *q = k + TILE * ld, *v = q + TILE * ld, *dO = v + TILE * lv;
	float2 *stats = (float2 *)(dO + TILE * lv);
	int n0 = blockIdx.x * TILE, b = blockIdx.y / p.G, g = blockIdx.y % p.G;
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = warp * 16 + lane / 4, t2 = lane % 4 * 2;
	float c = p.scale * LOG2E, s[32], dp[32], dk[CHUNK / 2] = {}, dv[CHUNK / 2] = {};
	loadKeys(k, ld, p, b, g, n0, p.T);
	loadRows(v, lv, p.v + ((size_t)b * p.T * p.G + g) * p.vStride, p.G * p.vStride, n0, p.T, p.Dv);
	for (int h = g * share; h < (g + 1) * share; h++) {
		for (int m0 = n0; m0 < p.T; m0 += TILE) {
			if (MASKED && firstKey(p, b, m0) >= n0 + TILE) break; // nor does any query behind it read these keys
			loadRows(q, ld, p.q + ((size_t)b * p.T * p.H + h) * D, p.H * D, m0, p.T, D);
			loadRows(dO, lv, p.dO + ((size_t)b * p.T * p.H + h) * p.Dv, p.H * p.Dv, m0, p.T, p.Dv);
			if (threadIdx.x < 32) copyAsync16(smemAddress(stats + 2 * threadIdx.x), p.stats + ((size_t)b * p.H + h) * paddedT(p.T) + m0 + 2 * threadIdx.x, true);
			copyCommit();
			copyWait<0>();
			__syncthreads();
			products(s, k + warp * 16 * ld, q, ld, D);
			products(dp, v + warp * 16 * lv, dO, lv, p.Dv);
#pragma unroll
			for (int e = 0; e < 32; e++) {
				int col = e / 4 * 8 + t2 + e % 2;
				float2 stat = stats[col];
				if (m0 == n0 && col < row + e % 4 / 2 * 8) s[e] = -INFINITY;
				if (MASKED && n0 + row + e % 4 / 2 * 8 < firstKey(p, b, m0 + col)) s[e] = -INFINITY;
				s[e] = fastExp2(fmaf(s[e], c, stat.x));
				dp[e] = s[e] * (dp[e] - stat.y);
			}
			if (colsV > 0) addColumns(dv, s, dO + col0, lv, colsV);
			if (colsK > 0) addColumns(dk, dp, q + col0, ld, colsK);
			__syncthreads();
		}
	}
	int left = p.P - col0; // columns of this chunk that belong to K, the rest to KRope
#pragma unroll
	for (int e = 0; e < CHUNK / 2; e++) {
		dk[e] *= p.scale;
		if (p.tied && e / 4 * 8 < min(left, colsV)) dv[e] += dk[e];
	}
#pragma unroll
	for (int r = 0; r < 2; r++) {
		int t = n0 + row + 8 * r;
		if (t >= p.T) continue;
		size_t at = ((size_t)b * p.T + t) * p.G + g;
		storeColumns(p.dV + at * p.vStride + col0, dv, r, 1, colsV);
		if (!p.tied) storeColumns(p.dK + at * p.kStride + col0, dk, r, 1, min(left, colsK));
		float *rope = p.ropeParts + (((size_t)b * p.G + g) * p.T + t) * p.R - left + t2;
#pragma unroll
		for (int j = 0; j < CHUNK / 8; j++)
			if (8 * j >= left && 8 * j < colsK) *(float2 *)(rope + 8 * j) = {dk[4 * j + 2 * r], dk[4 * j + 2 * r + 1]};
	}
}
