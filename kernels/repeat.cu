// Parts of rows that are repeated, and their sums: plain rather than fast.
#include "vector.cuh"

struct RepeatArgs {
	const void *x; // [rows, inner], fold: [rows, times, inner]
	void *y;       // [rows, times, inner], fold: [rows, inner]
	int64_t rows, inner;
	int times;
	float scale;
};
static_assert(sizeof(RepeatArgs) == 40);

// y[r, t, i] = scale·x[r, i]: each thread has one Pack of y
template <typename T, bool WIDE> __device__ void repeat(const RepeatArgs &a) {
	constexpr int N = Pack<T>::N;
	const int64_t packs = (a.inner + N - 1) / N, at = int64_t(blockIdx.x) * 256 + threadIdx.x;
	if (at >= a.rows * a.times * packs)
		return;
	const int64_t row = at / packs, i = at % packs * N, left = a.inner - i;
	Pack<T> x = load<WIDE>((const T *)a.x + row / a.times * a.inner + i, left);
#pragma unroll
	for (int j = 0; j < N; j++)
		x.set(j, a.scale * x[j]);
	store<WIDE>((T *)a.y + row * a.inner + i, x, left);
}
FORMS(repeat, RepeatArgs, 256)

// y[r, i] = scale·Σ_t x[r, t, i], summed in float32: each thread has one Pack of y
template <typename T, bool WIDE> __device__ void fold(const RepeatArgs &a) {
	constexpr int N = Pack<T>::N;
	const int64_t packs = (a.inner + N - 1) / N, at = int64_t(blockIdx.x) * 256 + threadIdx.x;
	if (at >= a.rows * packs)
		return;
	const int64_t row = at / packs, i = at % packs * N, left = a.inner - i;
	float sum[N] = {};
	for (int t = 0; t < a.times; t++) {
		Pack<T> x = load<WIDE>((const T *)a.x + (row * a.times + t) * a.inner + i, left);
#pragma unroll
		for (int j = 0; j < N; j++)
			sum[j] += x[j];
	}
	Pack<T> y;
#pragma unroll
	for (int j = 0; j < N; j++)
		y.set(j, a.scale * sum[j]);
	store<WIDE>((T *)a.y + row * a.inner + i, y, left);
}
FORMS(fold, RepeatArgs, 256)
