// Causal attention in float32, for `precision: fp32`: plain and exact rather than fast. Tiles of 32 queries by 32 keys,
// 256 threads; thread (y, x) holds row y, score columns x+8i and output columns x+8i, for any widths up to 256.
#include "attention_args.cuh"

#ifndef MASKED // attention_fp32_masked.cu compiles the same kernels with it
#define MASKED false
#endif

constexpr int SIDE = 32, WIDEST = 256;

// Bytes of shared memory for keys of D columns and values of Dv, as in attention_shape.go: of the forward kernel, and
// of both that give gradients.
constexpr int forwardBytes(int D, int Dv) { return SIDE * 4 * (2 * (D + 1) + Dv + 1 + SIDE + 1); }
constexpr int gradientBytes(int D, int Dv) { return SIDE * 4 * (2 * (D + 1) + 2 * (Dv + 1) + SIDE + 1); }
static_assert(forwardBytes(64, 64) == 29184 && forwardBytes(256, 128) == 86528);
static_assert(gradientBytes(64, 64) == 37504 && gradientBytes(256, 128) == 103040);

// loadRows brings 32 rows of cols columns into rows of ld floats, zeros past row T.
__device__ __forceinline__ void loadRows(float *dst, int ld, const float *src, int stride, int row0, int T, int cols) {
	for (int i = threadIdx.x; i < SIDE * cols; i += 256) {
		int r = i / cols, c = i % cols;
		dst[r * ld + c] = row0 + r < T ? src[(size_t)(row0 + r) * stride + c] : 0;
	}
}

__device__ __forceinline__ void loadKeys(float *dst, int ld, const AttentionArgs<float> &p, int b, int g, int row0, int S) {
	loadRows(dst, ld, p.k + ((size_t)b * S * p.G + g) * p.kStride, p.G * p.kStride, row0, S, p.P);
	if (p.R > 0) loadRows(dst + p.P, ld, p.kRope + (size_t)b * S * p.R, p.R, row0, S, p.R);
}

// products gives s[i] = row y of a · row x+8i of b.
__device__ __forceinline__ void products(float (&s)[4], const float *a, const float *b, int ld, int cols) {
	const float *row = a + threadIdx.x / 8 * ld, *other = b + threadIdx.x % 8 * ld;
	s[0] = s[1] = s[2] = s[3] = 0;
	for (int c = 0; c < cols; c++) {
		float x = row[c];
#pragma unroll
		for (int i = 0; i < 4; i++) s[i] = fmaf(x, other[8 * i * ld + c], s[i]);
	}
}

// addRows adds row y of the [32,32] weights · b [32, cols] to d. A row's weights come from and go to one warp.
__device__ __forceinline__ void addRows(float (&d)[WIDEST / 8], float *weights, const float (&w)[4], const float *b, int ld, int cols) {
	int y = threadIdx.x / 8, x = threadIdx.x % 8;
	__syncwarp();
#pragma unroll
	for (int i = 0; i < 4; i++) weights[y * (SIDE + 1) + x + 8 * i] = w[i];
	__syncwarp();
	for (int j = 0; j < SIDE; j++) {
		float weight = weights[y * (SIDE + 1) + j];
#pragma unroll
		for (int i = 0; i < WIDEST / 8; i++)
			if (8 * i < cols) d[i] = fmaf(weight, b[j * ld + x + 8 * i], d[i]);
	}
}

// attention_forward_f32: grid [T/32, H·B].
extern "C" __global__ void __launch_bounds__(256) attention_forward_f32(const __grid_constant__ AttentionArgs<float> p) {
	extern __shared__ float shared[];
	int D = p.P + p.R, ld = D + 1, lv = p.Dv + 1;
	float *q = shared, *k = q + SIDE * ld, *v = k + SIDE * ld, *weights = v + SIDE * lv;
	int block = gridDim.x - 1 - blockIdx.x, m0 = block * SIDE, b = blockIdx.y / p.H, h = blockIdx.y % p.H, g = h / (p.H / p.G);
	int y = threadIdx.x / 8, x = threadIdx.x % 8, t = m0 + y;
	float s[4], o[WIDEST / 8] = {}, m = -INFINITY, sum = 0;
	loadRows(q, ld, p.q + ((size_t)b * p.T * p.H + h) * D, p.H * D, m0, p.T, D);
	const int last = block + p.start / SIDE, S = p.start + p.T;
	const int stop = MASKED ? firstKey(p, b, m0) / SIDE : 0;
	for (int j = last; j >= stop; j--) {
		__syncthreads();
		loadKeys(k, ld, p, b, g, j * SIDE, S);
		loadRows(v, lv, p.v + ((size_t)b * S * p.G + g) * p.vStride, p.G * p.vStride, j * SIDE, S, p.Dv);
		__syncthreads();
		products(s, q, k, ld, D);
		float top = m;
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const bool hidden = j == last && x + 8 * i > y || MASKED && j * SIDE + x + 8 * i < firstKey(p, b, t);
			s[i] = hidden ? -INFINITY : s[i] * p.scale;
			top = fmaxf(top, s[i]);
		}
#pragma unroll
		for (int lanes = 4; lanes > 0; lanes /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, lanes));
		float shrink = expf(m - top);
		m = top;
		sum *= shrink;
#pragma unroll
		for (int i = 0; i < 4; i++) sum += s[i] = expf(s[i] - top);
#pragma unroll
		for (int i = 0; i < WIDEST / 8; i++) o[i] *= shrink;
		addRows(o, weights, s, v, lv, p.Dv);
	}
#pragma unroll
	for (int lanes = 4; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
	if (t >= p.T) return;
	float *out = p.o + (((size_t)b * p.T + t) * p.H + h) * p.Dv;
#pragma unroll
	for (int i = 0; i < WIDEST / 8; i++)
		if (x + 8 * i < p.Dv) out[x + 8 * i] = o[i] / sum;
	if (x == 0) p.lse[((size_t)b * p.H + h) * p.T + t] = m + logf(sum);
}

// attention_backward_query_f32: grid [T/32, H·B].
extern "C" __global__ void __launch_bounds__(256) attention_backward_query_f32(const __grid_constant__ AttentionArgs<float> p) {
	extern __shared__ float shared[];
	int D = p.P + p.R, ld = D + 1, lv = p.Dv + 1;
	float *q = shared, *k = q + SIDE * ld, *dO = k + SIDE * ld, *v = dO + SIDE * lv, *weights = v + SIDE * lv;
	int block = gridDim.x - 1 - blockIdx.x, m0 = block * SIDE, b = blockIdx.y / p.H, h = blockIdx.y % p.H, g = h / (p.H / p.G);
	int y = threadIdx.x / 8, x = threadIdx.x % 8, t = m0 + y;
	float s[4], dp[4], dq[WIDEST / 8] = {}, lse = t < p.T ? p.lse[(size_t)blockIdx.y * p.T + t] : INFINITY;
	float delta = p.stats[(size_t)blockIdx.y * paddedT(p.T) + t].y;
	loadRows(q, ld, p.q + ((size_t)b * p.T * p.H + h) * D, p.H * D, m0, p.T, D);
	loadRows(dO, lv, p.dO + ((size_t)b * p.T * p.H + h) * p.Dv, p.H * p.Dv, m0, p.T, p.Dv);
	const int stop = MASKED ? firstKey(p, b, m0) / SIDE : 0;
	for (int j = block; j >= stop; j--) {
		__syncthreads();
		loadKeys(k, ld, p, b, g, j * SIDE, p.T);
		loadRows(v, lv, p.v + ((size_t)b * p.T * p.G + g) * p.vStride, p.G * p.vStride, j * SIDE, p.T, p.Dv);
		__syncthreads();
		products(s, q, k, ld, D);
		products(dp, dO, v, lv, p.Dv);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const bool hidden = j == block && x + 8 * i > y || MASKED && j * SIDE + x + 8 * i < firstKey(p, b, t);
			s[i] = hidden ? 0 : expf(s[i] * p.scale - lse) * (dp[i] - delta);
		}
		addRows(dq, weights, s, k, ld, D);
	}
	if (t >= p.T) return;
	float *out = p.dQ + (((size_t)b * p.T + t) * p.H + h) * D;
#pragma unroll
	for (int i = 0; i < WIDEST / 8; i++)
		if (x + 8 * i < D) out[x + 8 * i] = dq[i] * p.scale;
}

// attention_backward_key_f32: grid [T/32, G·B]. Row y is a key, columns x+8i are queries.
extern "C" __global__ void __launch_bounds__(256) attention_backward_key_f32(const __grid_constant__ AttentionArgs<float> p) {
	extern __shared__ float shared[];
	int D = p.P + p.R, ld = D + 1, lv = p.Dv + 1, share = p.H / p.G;
	float *k = shared, *q = k + SIDE * ld, *v = q + SIDE * ld, *dO = v + SIDE * lv, *weights = dO + SIDE * lv;
	int n0 = blockIdx.x * SIDE, b = blockIdx.y / p.G, g = blockIdx.y % p.G;
	int y = threadIdx.x / 8, x = threadIdx.x % 8, key = n0 + y;
	float s[4], dp[4], dk[WIDEST / 8] = {}, dv[WIDEST / 8] = {};
	loadKeys(k, ld, p, b, g, n0, p.T);
	loadRows(v, lv, p.v + ((size_t)b * p.T * p.G + g) * p.vStride, p.G * p.vStride, n0, p.T, p.Dv);
	for (int h = g * share; h < (g + 1) * share; h++) {
		for (int m0 = n0; m0 < p.T; m0 += SIDE) {
			if (MASKED && firstKey(p, b, m0) >= n0 + SIDE) break; // nor does any query behind it read these keys
			__syncthreads();
			loadRows(q, ld, p.q + ((size_t)b * p.T * p.H + h) * D, p.H * D, m0, p.T, D);
			loadRows(dO, lv, p.dO + ((size_t)b * p.T * p.H + h) * p.Dv, p.H * p.Dv, m0, p.T, p.Dv);
			__syncthreads();
			products(s, k, q, ld, D);
			products(dp, v, dO, lv, p.Dv);
#pragma unroll
			for (int i = 0; i < 4; i++) {
				int t = m0 + x + 8 * i;
				size_t row = (size_t)b * p.H + h;
				s[i] = t < key || t >= p.T || MASKED && key < firstKey(p, b, t) ? 0 : expf(s[i] * p.scale - p.lse[row * p.T + t]);
				dp[i] = t >= p.T ? 0 : s[i] * (dp[i] - p.stats[row * paddedT(p.T) + t].y);
			}
			addRows(dv, weights, s, dO, lv, p.Dv);
			addRows(dk, weights, dp, q, ld, D);
		}
	}
	if (key >= p.T) return;
	size_t at = ((size_t)b * p.T + key) * p.G + g;
#pragma unroll
	for (int i = 0; i < WIDEST / 8; i++) {
		int c = x + 8 * i;
		float grad = dk[i] * p.scale;
		if (c < p.Dv) p.dV[at * p.vStride + c] = dv[i] + (p.tied && c < p.P ? grad : 0);
		if (c < p.P && !p.tied) p.dK[at * p.kStride + c] = grad;
		if (c >= p.P && c < D) p.ropeParts[(((size_t)b * p.G + g) * p.T + key) * p.R + c - p.P] = grad;
	}
}
