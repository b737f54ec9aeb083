// Sums over rows, in a fixed order: first each block sums a share of the rows, then the shares are summed.
#include "vector.cuh"

struct ColSumArgs {
	const void *x;
	float *part; // [shares, N]
	int64_t rows;
	int N;
};
static_assert(sizeof(ColSumArgs) == 32);

// A warp is 32 Packs wide; the block's 8 warps take every eighth row of the block's share. 1 pass.
template <typename T, bool WIDE> __device__ void col_sum(const ColSumArgs &a) {
	constexpr int V = Pack<T>::N, warps = 8;
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, c = (blockIdx.x * 32 + lane) * V;
	const int64_t share = (a.rows + gridDim.y - 1) / gridDim.y, first = blockIdx.y * share, last = min(first + share, a.rows);
	float sum[V] = {};
	if (c < a.N) {
#pragma unroll 4
		for (int64_t r = first + warp; r < last; r += warps) {
			Pack<T> x = load<WIDE>((const T *)a.x + r * a.N + c, a.N - c);
#pragma unroll
			for (int j = 0; j < V; j++)
				sum[j] += x[j];
		}
	}
	__shared__ float all[warps][32 * V + 1];
#pragma unroll
	for (int j = 0; j < V; j++)
		all[warp][lane * V + j] = sum[j];
	__syncthreads();
	for (int i = threadIdx.x; i < 32 * V; i += blockDim.x) {
		float s = 0;
#pragma unroll
		for (int w = 0; w < warps; w++)
			s += all[w][i];
		if (blockIdx.x * 32 * V + i < a.N)
			a.part[int64_t(blockIdx.y) * a.N + blockIdx.x * 32 * V + i] = s;
	}
}
FORMS(col_sum, ColSumArgs, 256)

struct SharesArgs {
	const float *part; // [shares, N]
	float *y;
	int shares, N, accumulate;
};
static_assert(sizeof(SharesArgs) == 32);

// y[n] = Σ over shares; a block has 32 columns and 32 warps, each with every 32nd share
extern "C" __global__ void __launch_bounds__(1024) sum_shares(const __grid_constant__ SharesArgs a) {
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, c = blockIdx.x * 32 + lane;
	float s = 0;
	if (c < a.N)
#pragma unroll 4
		for (int i = warp; i < a.shares; i += 32)
			s += a.part[int64_t(i) * a.N + c];
	__shared__ float all[32][33];
	all[warp][lane] = s;
	__syncthreads();
	if (warp == 0 && c < a.N) {
		s = 0;
		for (int w = 0; w < 32; w++)
			s += all[w][lane];
		a.y[c] = a.accumulate ? a.y[c] + s : s;
	}
}
