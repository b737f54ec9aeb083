// RMSNorm over rows of C, forward and backward, each fused with the addition that stands before it.
// A warp owns a row and holds it in registers: lane l has the Packs l, l + 32, ... of the row, PACKS of them.
#include "vector.cuh"

struct RMSNormArgs {
	const void *x, *add; // add: nil, or added to x first
	const void *w;       // [groups, C]
	void *sum, *y;       // sum = x + add, written when add is there
	float *rstd;         // [rows, groups], nil when nobody reads it
	int64_t rows;
	int groups, C;
	float eps;
};

constexpr int warps = 8;

// 2 passes, 4 with the addition
template <typename T, int PACKS> __device__ void rms_norm(const RMSNormArgs &a) {
	constexpr int N = Pack<T>::N;
	const int lane = threadIdx.x % 32;
	const int64_t row = int64_t(blockIdx.x) * warps + threadIdx.x / 32; // over rows · groups
	if (row >= a.rows * a.groups)
		return;
	const bool wide = a.C % N == 0 && aligned(a.x) && aligned(a.add) && aligned(a.w) && aligned(a.sum) && aligned(a.y);
	const T *w = (const T *)a.w + row % a.groups * a.C;
	Pack<T> x[PACKS], add[PACKS];
#pragma unroll
	for (int p = 0; p < PACKS; p++) {
		int c = (p * 32 + lane) * N;
		if (c < a.C) {
			x[p] = load((const T *)a.x + row * a.C + c, wide, a.C - c);
			if (a.add)
				add[p] = load((const T *)a.add + row * a.C + c, wide, a.C - c);
		}
	}
	float squares = 0;
#pragma unroll
	for (int p = 0; p < PACKS; p++) {
		int c = (p * 32 + lane) * N;
		if (c >= a.C)
			continue;
		if (a.add) {
#pragma unroll
			for (int j = 0; j < N; j++)
				x[p].set(j, x[p][j] + add[p][j]);
			store((T *)a.sum + row * a.C + c, x[p], wide, a.C - c);
		}
#pragma unroll
		for (int j = 0; j < N; j++)
			squares += x[p][j] * x[p][j];
	}
	const float rstd = rsqrtf(warp_sum(squares) / a.C + a.eps);
	if (a.rstd && lane == 0)
		a.rstd[row] = rstd;
#pragma unroll
	for (int p = 0; p < PACKS; p++) {
		int c = (p * 32 + lane) * N;
		if (c >= a.C)
			continue;
		Pack<T> scale = load(w + c, wide, a.C - c);
#pragma unroll
		for (int j = 0; j < N; j++)
			x[p].set(j, x[p][j] * rstd * scale[j]);
		store((T *)a.y + row * a.C + c, x[p], wide, a.C - c);
	}
}

struct RMSNormGradArgs {
	const void *x, *w;
	const float *rstd;
	const void *dy, *add; // add: nil, or added to dx
	void *dx;
	float *dw; // [blocks, groups, C]: what each block's rows add to the gradient of w
	int64_t rows;
	int groups, C;
};

// dx = rstd · (dy·w - x̂ · mean(dy·w·x̂)) (+ add), x̂ = x·rstd: 3 passes, 4 with the addition. blockIdx.y is the group.
template <typename T, int PACKS> __device__ void rms_norm_grad(const RMSNormGradArgs &a) {
	constexpr int N = Pack<T>::N;
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = blockIdx.y;
	const bool wide = a.C % N == 0 && aligned(a.x) && aligned(a.add) && aligned(a.w) && aligned(a.dy) && aligned(a.dx);
	const T *w = (const T *)a.w + int64_t(group) * a.C;
	float dw[PACKS][N] = {};
	for (int64_t r = int64_t(blockIdx.x) * warps + warp; r < a.rows; r += int64_t(gridDim.x) * warps) {
		const int64_t row = r * a.groups + group;
		Pack<T> x[PACKS], dy[PACKS];
#pragma unroll
		for (int p = 0; p < PACKS; p++) {
			int c = (p * 32 + lane) * N;
			if (c < a.C) {
				x[p] = load((const T *)a.x + row * a.C + c, wide, a.C - c);
				dy[p] = load((const T *)a.dy + row * a.C + c, wide, a.C - c);
			}
		}
		const float rstd = a.rstd[row];
		float dot = 0;
#pragma unroll
		for (int p = 0; p < PACKS; p++) {
			int c = (p * 32 + lane) * N;
			if (c >= a.C)
				continue;
			Pack<T> scale = load(w + c, wide, a.C - c);
#pragma unroll
			for (int j = 0; j < N; j++) {
				dw[p][j] += dy[p][j] * x[p][j] * rstd;
				dot += dy[p][j] * scale[j] * x[p][j];
			}
		}
		dot = warp_sum(dot) * rstd * rstd / a.C;
#pragma unroll
		for (int p = 0; p < PACKS; p++) {
			int c = (p * 32 + lane) * N;
			if (c >= a.C)
				continue;
			Pack<T> scale = load(w + c, wide, a.C - c), add;
			if (a.add)
				add = load((const T *)a.add + row * a.C + c, wide, a.C - c);
#pragma unroll
			for (int j = 0; j < N; j++) {
				float d = rstd * (dy[p][j] * scale[j] - x[p][j] * dot);
				x[p].set(j, a.add ? d + add[j] : d);
			}
			store((T *)a.dx + row * a.C + c, x[p], wide, a.C - c);
		}
	}

	// the block's warps one after the other, so that the order of the sum is fixed
	extern __shared__ float total[]; // [C]
	for (int turn = 0; turn < warps; turn++) {
		if (warp == turn) {
#pragma unroll
			for (int p = 0; p < PACKS; p++)
#pragma unroll
				for (int j = 0; j < N; j++) {
					int c = (p * 32 + lane) * N + j;
					if (c < a.C)
						total[c] = turn == 0 ? dw[p][j] : total[c] + dw[p][j];
				}
		}
		__syncthreads();
	}
	float *out = a.dw + (int64_t(blockIdx.x) * a.groups + group) * a.C;
	for (int c = threadIdx.x; c < a.C; c += blockDim.x)
		out[c] = total[c];
}

#define NORM(T, type, PACKS) \
	extern "C" __global__ void __launch_bounds__(32 * warps) rms_norm_##type##_##PACKS(const __grid_constant__ RMSNormArgs a) { \
		rms_norm<T, PACKS>(a); \
	} \
	extern "C" __global__ void __launch_bounds__(32 * warps) rms_norm_grad_##type##_##PACKS(const __grid_constant__ RMSNormGradArgs a) { \
		rms_norm_grad<T, PACKS>(a); \
	}
#define NORMS(PACKS) NORM(float, f32, PACKS) NORM(bf16, bf16, PACKS)
NORMS(1) NORMS(2) NORMS(3) NORMS(4) NORMS(6) NORMS(8)
NORM(float, f32, 12) NORM(float, f32, 16) // C up to 2048 in both types; twice that in bf16 spills
