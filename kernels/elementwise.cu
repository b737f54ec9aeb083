// Kernels without any sum: each thread moves one Pack.
#include "vector.cuh"

struct AddArgs {
	const void *x, *y;
	void *out;
	int64_t n;
};
static_assert(sizeof(AddArgs) == 32);

// out = x + y: 3 passes, two Packs a thread
template <typename T, bool WIDE> __device__ void add(const AddArgs &a) {
	constexpr int N = Pack<T>::N;
	const int64_t first = (int64_t(blockIdx.x) * 512 + threadIdx.x) * N;
	Pack<T> x[2], y[2];
#pragma unroll
	for (int u = 0; u < 2; u++) {
		int64_t i = first + u * 256 * N, left = a.n - i;
		if (left <= 0)
			break;
		x[u] = load<WIDE>((const T *)a.x + i, left);
		y[u] = load<WIDE>((const T *)a.y + i, left);
	}
#pragma unroll
	for (int u = 0; u < 2; u++) {
		int64_t i = first + u * 256 * N, left = a.n - i;
		if (left <= 0)
			break;
#pragma unroll
		for (int j = 0; j < N; j++)
			x[u].set(j, x[u][j] + y[u][j]);
		store<WIDE>((T *)a.out + i, x[u], left);
	}
}
FORMS(add, AddArgs, 256)

struct CastArgs {
	const float *x;
	bf16 *y;
	int64_t n;
};
static_assert(sizeof(CastArgs) == 24);

// y = bf16(x)
template <typename T, bool WIDE> __device__ void to_bf16(const CastArgs &a) {
	int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 8, left = a.n - i;
	if (left <= 0)
		return;
	Pack<float> lo = load<WIDE>(a.x + i, left), hi = load<WIDE>(a.x + i + 4, left - 4);
	Pack<bf16> y;
#pragma unroll
	for (int j = 0; j < 4; j++) {
		y.set(j, lo[j]);
		y.set(j + 4, hi[j]);
	}
	store<WIDE>(a.y + i, y, left);
}
FORM(cast, to_bf16, bf16, true, CastArgs, 256)
FORM(cast_any, to_bf16, bf16, false, CastArgs, 256)

struct NoiseArgs {
	void *x;
	int64_t n;
	uint64_t seed;
	float scale;
};
static_assert(sizeof(NoiseArgs) == 32);

// x = scale · something near normal (the sum of four uniforms, standardised), a function of seed and position alone
template <typename T> __device__ void noise(const NoiseArgs &a) {
	int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
	if (i >= a.n)
		return;
	uint64_t z = a.seed + (i + 1) * 0x9e3779b97f4a7c15ull;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	float sum = 0;
#pragma unroll
	for (int j = 0; j < 4; j++)
		sum += float((z >> (16 * j)) & 0xffff) / 65536.f - 0.5f;
	((T *)a.x)[i] = T(a.scale * sum * 1.7320508f);
}
extern "C" __global__ void __launch_bounds__(256) noise_f32(const __grid_constant__ NoiseArgs a) { noise<float>(a); }
extern "C" __global__ void __launch_bounds__(256) noise_bf16(const __grid_constant__ NoiseArgs a) { noise<bf16>(a); }
