// Sums whose second term is multiplied by column. Each thread has one element: plain rather than fast.
#include "vector.cuh"

struct AddScaledArgs {
	const void *x, *z, *a; // [rows, C] twice, [C]
	void *y;
	int64_t n; // rows · C
	int C;
};
static_assert(sizeof(AddScaledArgs) == 48);

// y = x + a·z: 3 passes
template <typename T> __device__ void add_scaled(const AddScaledArgs &a) {
	const int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x;
	if (i < a.n)
		((T *)a.y)[i] = T(float(((const T *)a.x)[i]) + float(((const T *)a.a)[i % a.C]) * float(((const T *)a.z)[i]));
}
extern "C" __global__ void __launch_bounds__(256) add_scaled_f32(const __grid_constant__ AddScaledArgs a) { add_scaled<float>(a); }
extern "C" __global__ void __launch_bounds__(256) add_scaled_bf16(const __grid_constant__ AddScaledArgs a) { add_scaled<bf16>(a); }

struct AddScaledGradArgs {
	const void *z, *a, *dy;
	void *dz;
	float *part; // [shares, C]
	int64_t rows;
	int C;
};
static_assert(sizeof(AddScaledGradArgs) == 56);

// dz = a·dy and part = Σ z·dy over a share of the rows: a block has 32 columns, its 8 warps every eighth row of the
// share. The order of the sums is that of the shape alone. 3 passes.
template <typename T> __device__ void add_scaled_grad(const AddScaledGradArgs &a) {
	constexpr int warps = 8;
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, c = blockIdx.x * 32 + lane;
	const int64_t share = (a.rows + gridDim.y - 1) / gridDim.y, first = blockIdx.y * share, last = min(first + share, a.rows);
	float sum = 0;
	if (c < a.C) {
		const float gain = float(((const T *)a.a)[c]);
		for (int64_t r = first + warp; r < last; r += warps) {
			const float dy = float(((const T *)a.dy)[r * a.C + c]);
			((T *)a.dz)[r * a.C + c] = T(gain * dy);
			sum += float(((const T *)a.z)[r * a.C + c]) * dy;
		}
	}
	__shared__ float all[warps][32];
	all[warp][lane] = sum;
	__syncthreads();
	if (warp == 0 && c < a.C) {
		sum = 0;
		for (int w = 0; w < warps; w++)
			sum += all[w][lane];
		a.part[int64_t(blockIdx.y) * a.C + c] = sum;
	}
}
extern "C" __global__ void __launch_bounds__(256) add_scaled_grad_f32(const __grid_constant__ AddScaledGradArgs a) { add_scaled_grad<float>(a); }
extern "C" __global__ void __launch_bounds__(256) add_scaled_grad_bf16(const __grid_constant__ AddScaledGradArgs a) { add_scaled_grad<bf16>(a); }
