// Rotary embedding of the last R of each head's D, half-split: (x[i], x[i + R/2]) rotates by t · frequency(i).
#include "vector.cuh"

struct RopeArgs {
	const void *x;
	void *y;
	const float2 *table; // [T, R/2]: cos, sin
	int64_t rows;        // B · T · heads
	int heads, T, D, R;
	int inverse;
};
static_assert(sizeof(RopeArgs) == 56);

// Each thread rotates N pairs, or copies N of the elements before them when y is not x. In place: 2 passes over the R
// part.
template <typename T, int N> __device__ void rope(const RopeArgs &a) {
	const int half = a.R / 2, rotate = half / N, chunks = rotate + (a.x == a.y ? 0 : (a.D - a.R) / N);
	int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
	if (i >= a.rows * chunks)
		return;
	const int64_t row = i / chunks;
	const int chunk = i % chunks;
	const T *x = (const T *)a.x + row * a.D;
	T *y = (T *)a.y + row * a.D;
	constexpr bool WIDE = N == Pack<T>::N;
	if (chunk >= rotate) {
		int c = (chunk - rotate) * N;
		store<WIDE>(y + c, load<WIDE>(x + c, N), N);
		return;
	}
	const int c = a.D - a.R + chunk * N;
	Pack<T> lo = load<WIDE>(x + c, N), hi = load<WIDE>(x + c + half, N);
	const float2 *angle = a.table + (row / a.heads % a.T) * half + chunk * N;
#pragma unroll
	for (int j = 0; j < N; j++) {
		float2 cs = angle[j];
		float s = a.inverse ? -cs.y : cs.y, u = lo[j], v = hi[j];
		lo.set(j, u * cs.x - v * s);
		hi.set(j, v * cs.x + u * s);
	}
	store<WIDE>(y + c, lo, N);
	store<WIDE>(y + c + half, hi, N);
}

#define ROPE(name, T, N) \
	extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ RopeArgs a) { rope<T, N>(a); }
ROPE(rope_f32, float, 4)
ROPE(rope_bf16, bf16, 8)
ROPE(rope_any_f32, float, 1)
ROPE(rope_any_bf16, bf16, 1)
