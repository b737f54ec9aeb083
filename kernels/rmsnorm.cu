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
static_assert(sizeof(RMSNormArgs) == 72);

// 2 passes, 4 with the addition. (Persistent blocks that fetch rows ahead, as below, were 10% slower here.)
template <typename T, bool WIDE> __device__ void rms_norm(const RMSNormArgs &a) {
	constexpr int N = Pack<T>::N;
	__shared__ float part[32];
	const Place<T> p(a.warps);
	const int64_t row = int64_t(blockIdx.x) * p.slots + p.slot, at = row * a.C + p.c; // row over rows · groups
	const int left = row < a.rows * a.groups ? a.C - p.c : 0;
	Pack<T> x, w;
	float squares = 0;
	if (left > 0) {
		x = load<WIDE>((const T *)a.x + at, left);
		w = load<WIDE>((const T *)a.w + row % a.groups * a.C + p.c, left);
		if (a.add) {
			Pack<T> add = load<WIDE>((const T *)a.add + at, left);
#pragma unroll
			for (int j = 0; j < N; j++)
				x.set(j, x[j] + add[j]);
			store<WIDE>((T *)a.sum + at, x, left);
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
	store<WIDE>((T *)a.y + at, x, left);
}
FORMS(rms_norm, RMSNormArgs, 512)

struct RMSNormGradArgs {
	const void *x, *w;
	const float *rstd;
	const void *dy, *add; // add: nil, or added to dx
	void *dx;
	float *dw; // [blocks, groups, C]: what each block's rows add to the gradient of w
	int64_t rows;
	int groups, C, warps; // of a row
};
static_assert(sizeof(RMSNormGradArgs) == 80);

// Rows are fetched this many turns ahead, by each thread for itself: copies into its own place in shared memory, which
// take no registers and need no barrier.
constexpr int ahead = 4;

// dx = rstd · (dy·w - x̂ · mean(dy·w·x̂)) (+ add), x̂ = x·rstd: 3 passes, 4 with the addition. blockIdx.y is the group.
template <typename T, bool WIDE> __device__ void rms_norm_grad(const RMSNormGradArgs &a) {
	constexpr int N = Pack<T>::N;
	__shared__ float part[2][32];
	extern __shared__ __align__(16) char fetched[]; // [ahead, 3, threads] Packs, [ahead, threads] floats; at the end [C] floats
	Pack<T> *mine = (Pack<T> *)fetched + threadIdx.x;
	float *mine_rstd = (float *)((Pack<T> *)fetched + ahead * 3 * blockDim.x) + threadIdx.x, *total = (float *)fetched;
	const Place<T> p(a.warps);
	const int left = a.C - p.c, group = blockIdx.y;
	const int64_t step = int64_t(gridDim.x) * p.slots, first = int64_t(blockIdx.x) * p.slots + p.slot;
	auto fetch = [&](int64_t r, int turn) {
		if (r < a.rows && left > 0) {
			const int64_t row = r * a.groups + group, at = row * a.C + p.c;
			copy_ahead<4>(mine_rstd + turn * blockDim.x, a.rstd + row);
			if (WIDE) {
				copy_ahead<16>(mine + turn * 3 * blockDim.x, (const T *)a.x + at);
				copy_ahead<16>(mine + (turn * 3 + 1) * blockDim.x, (const T *)a.dy + at);
				if (a.add)
					copy_ahead<16>(mine + (turn * 3 + 2) * blockDim.x, (const T *)a.add + at);
			}
		}
		copies_group();
	};
	for (int i = 0; i < ahead - 1; i++)
		fetch(first + i * step, i);
	Pack<T> w = {};
	if (left > 0)
		w = load<WIDE>((const T *)a.w + int64_t(group) * a.C + p.c, left);
	float dw[N] = {};
	int turn = 0;
	for (int64_t r = first; r - p.slot < a.rows; r += step, turn = (turn + 1) % ahead) {
		fetch(r + (ahead - 1) * step, (turn + ahead - 1) % ahead);
		copies_done<ahead - 1>();
		const bool active = r < a.rows && left > 0;
		const int64_t at = (r * a.groups + group) * a.C + p.c;
		Pack<T> x, dy;
		float dot = 0, rstd = 0;
		if (active) {
			x = WIDE ? mine[turn * 3 * blockDim.x] : load<WIDE>((const T *)a.x + at, left);
			dy = WIDE ? mine[(turn * 3 + 1) * blockDim.x] : load<WIDE>((const T *)a.dy + at, left);
			rstd = mine_rstd[turn * blockDim.x];
#pragma unroll
			for (int j = 0; j < N; j++) {
				dw[j] += dy[j] * x[j] * rstd;
				dot += dy[j] * w[j] * x[j];
			}
		}
		dot = row_sum(dot, a.warps, part[turn % 2]) * rstd * rstd / a.C;
		if (!active)
			continue;
		Pack<T> add;
		if (a.add)
			add = WIDE ? mine[(turn * 3 + 2) * blockDim.x] : load<WIDE>((const T *)a.add + at, left);
#pragma unroll
		for (int j = 0; j < N; j++) {
			float d = rstd * (dy[j] * w[j] - x[j] * dot);
			x.set(j, a.add ? d + add[j] : d);
		}
		store<WIDE>((T *)a.dx + at, x, left);
	}
	copies_done<0>();
	__syncthreads();

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
FORMS(rms_norm_grad, RMSNormGradArgs, 512, 2) // 64 registers, so that a multiprocessor holds five blocks of C 768 or 1536
