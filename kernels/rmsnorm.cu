// RMSNorm over rows of C, forward and backward, each fused with the addition that stands before it.
// A thread holds one Pack of a row: a row takes C / 256 warps in bf16, and a block as many rows as fit in 8 warps.
// (A warp for a whole row needs 6 Packs a thread at C 1536: 165 registers backward, and a quarter of the bandwidth.)
#include "vector.cuh"

// place is where a thread stands: in which row of its block, at which column.
template <typename T> struct Place {
	int warp, lane, slot, slots, c;
	__device__ Place(int warps) : warp(threadIdx.x / 32), lane(threadIdx.x % 32) {
		slot = warp / warps;
		slots = blockDim.x / 32 / warps;
		c = (warp % warps * 32 + lane) * Pack<T>::N;
	}
};

// row_sum adds up x over the warps of each row. All threads of the block call it; two calls in a row need two arrays.
__device__ inline float row_sum(float x, int warps, float *part) {
	x = warp_sum(x);
	if (warps == 1)
		return x;
	const int warp = threadIdx.x / 32;
	if (threadIdx.x % 32 == 0)
		part[warp] = x;
	__syncthreads();
	x = 0;
	for (int i = warp / warps * warps, last = i + warps; i < last; i++)
		x += part[i];
	return x;
}

struct RMSNormArgs {
	const void *x, *add; // add: nil, or added to x first
	const void *w;       // [groups, C]
	void *sum, *y;       // sum = x + add, written when add is there
	float *rstd;         // [rows, groups], nil when nobody reads it
	int64_t rows;
	int groups, C, warps; // of a row
	float eps;
};

// 2 passes, 4 with the addition
template <typename T> __device__ void rms_norm(const RMSNormArgs &a) {
	constexpr int N = Pack<T>::N;
	__shared__ float part[32];
	const Place<T> p(a.warps);
	const int64_t row = int64_t(blockIdx.x) * p.slots + p.slot, at = row * a.C + p.c; // row over rows · groups
	const bool wide = a.C % N == 0 && aligned(a.x) && aligned(a.add) && aligned(a.w) && aligned(a.sum) && aligned(a.y);
	const int left = row < a.rows * a.groups ? a.C - p.c : 0;
	Pack<T> x, w;
	float squares = 0;
	if (left > 0) {
		x = load((const T *)a.x + at, wide, left);
		w = load((const T *)a.w + row % a.groups * a.C + p.c, wide, left);
		if (a.add) {
			Pack<T> add = load((const T *)a.add + at, wide, left);
#pragma unroll
			for (int j = 0; j < N; j++)
				x.set(j, x[j] + add[j]);
			store((T *)a.sum + at, x, wide, left);
		}
#pragma unroll
		for (int j = 0; j < N; j++)
			squares += x[j] * x[j];
	}
	const float rstd = rsqrtf(row_sum(squares, a.warps, part) / a.C + a.eps);
	if (left <= 0)
		return;
	if (a.rstd && p.c == 0)
		a.rstd[row] = rstd;
#pragma unroll
	for (int j = 0; j < N; j++)
		x.set(j, x[j] * rstd * w[j]);
	store((T *)a.y + at, x, wide, left);
}
BOTH_TYPES(rms_norm, 512, RMSNormArgs)

struct RMSNormGradArgs {
	const void *x, *w;
	const float *rstd;
	const void *dy, *add; // add: nil, or added to dx
	void *dx;
	float *dw; // [blocks, groups, C]: what each block's rows add to the gradient of w
	int64_t rows;
	int groups, C, warps; // of a row
};

// dx = rstd · (dy·w - x̂ · mean(dy·w·x̂)) (+ add), x̂ = x·rstd: 3 passes, 4 with the addition. blockIdx.y is the group.
// The next row is loaded before this one's sum is waited for.
template <typename T> __device__ void rms_norm_grad(const RMSNormGradArgs &a) {
	constexpr int N = Pack<T>::N;
	__shared__ float part[2][32];
	extern __shared__ float total[]; // [C]
	const Place<T> p(a.warps);
	const bool wide = a.C % N == 0 && aligned(a.x) && aligned(a.add) && aligned(a.w) && aligned(a.dy) && aligned(a.dx);
	const int left = a.C - p.c, group = blockIdx.y;
	const int64_t step = int64_t(gridDim.x) * p.slots;
	Pack<T> x, dy, add, next_x, next_dy, next_add, w = {};
	float rstd = 0, next_rstd = 0, dw[N] = {};
	auto fetch = [&](int64_t r) {
		if (r >= a.rows || left <= 0)
			return;
		const int64_t row = r * a.groups + group, at = row * a.C + p.c;
		next_x = load((const T *)a.x + at, wide, left);
		next_dy = load((const T *)a.dy + at, wide, left);
		if (a.add)
			next_add = load((const T *)a.add + at, wide, left);
		next_rstd = a.rstd[row];
	};
	if (left > 0)
		w = load((const T *)a.w + int64_t(group) * a.C + p.c, wide, left);
	int64_t r = int64_t(blockIdx.x) * p.slots + p.slot;
	fetch(r);
	for (int turn = 0; r - p.slot < a.rows; r += step, turn ^= 1) {
		x = next_x, dy = next_dy, add = next_add, rstd = next_rstd;
		fetch(r + step);
		const bool mine = r < a.rows && left > 0;
		float dot = 0;
		if (mine)
#pragma unroll
			for (int j = 0; j < N; j++) {
				dw[j] += dy[j] * x[j] * rstd;
				dot += dy[j] * w[j] * x[j];
			}
		dot = row_sum(dot, a.warps, part[turn]) * rstd * rstd / a.C;
		if (!mine)
			continue;
#pragma unroll
		for (int j = 0; j < N; j++) {
			float d = rstd * (dy[j] * w[j] - x[j] * dot);
			x.set(j, a.add ? d + add[j] : d);
		}
		store((T *)a.dx + (r * a.groups + group) * a.C + p.c, x, wide, left);
	}

	// the block's rows one after the other, so that the order of the sum is fixed
	for (int slot = 0; slot < p.slots; slot++) {
		if (p.slot == slot)
#pragma unroll
			for (int j = 0; j < N; j++)
				if (j < left)
					total[p.c + j] = slot == 0 ? dw[j] : total[p.c + j] + dw[j];
		__syncthreads();
	}
	float *out = a.dw + (int64_t(blockIdx.x) * a.groups + group) * a.C;
	for (int c = threadIdx.x; c < a.C; c += blockDim.x)
		out[c] = total[c];
}

// 80 registers, so that four blocks of C 768 or 1536 share a multiprocessor: left alone the compiler takes 102 in bf16
extern "C" __global__ void __launch_bounds__(512, 2) rms_norm_grad_f32(const __grid_constant__ RMSNormGradArgs a) { rms_norm_grad<float>(a); }
extern "C" __global__ void __launch_bounds__(384, 2) rms_norm_grad_bf16(const __grid_constant__ RMSNormGradArgs a) { rms_norm_grad<bf16>(a); }
