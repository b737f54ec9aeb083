// SwiGLU: y = silu(gate) · up, elementwise.
#include "vector.cuh"

struct SwiGLUArgs {
	const void *gate, *up;
	void *y;
	int64_t n;
};
static_assert(sizeof(SwiGLUArgs) == 32);

// 3 passes: gate, up, y, two Packs a thread
template <typename T, bool WIDE> __device__ void swiglu(const SwiGLUArgs &a) {
	constexpr int N = Pack<T>::N;
	const int64_t first = (int64_t(blockIdx.x) * 512 + threadIdx.x) * N;
	Pack<T> g[2], up[2];
#pragma unroll
	for (int u = 0; u < 2; u++) {
		int64_t i = first + u * 256 * N, left = a.n - i;
		if (left <= 0)
			break;
		g[u] = load<WIDE>((const T *)a.gate + i, left);
		up[u] = load<WIDE>((const T *)a.up + i, left);
	}
#pragma unroll
	for (int u = 0; u < 2; u++) {
		int64_t i = first + u * 256 * N, left = a.n - i;
		if (left <= 0)
			break;
#pragma unroll
		for (int j = 0; j < N; j++)
			g[u].set(j, g[u][j] / (1.f + __expf(-g[u][j])) * up[u][j]);
		store<WIDE>((T *)a.y + i, g[u], left);
	}
}
FORMS(swiglu, SwiGLUArgs, 256)

struct SwiGLUGradArgs {
	const void *gate, *up, *dy;
	void *dgate, *dup;
	int64_t n;
};
static_assert(sizeof(SwiGLUGradArgs) == 48);

// 5 passes: gate, up, dy, dgate, dup
template <typename T, bool WIDE> __device__ void swiglu_grad(const SwiGLUGradArgs &a) {
	int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * Pack<T>::N, left = a.n - i;
	if (left <= 0)
		return;
	Pack<T> g = load<WIDE>((const T *)a.gate + i, left), u = load<WIDE>((const T *)a.up + i, left), dy = load<WIDE>((const T *)a.dy + i, left);
	Pack<T> dg, du;
#pragma unroll
	for (int j = 0; j < Pack<T>::N; j++) {
		float sigmoid = 1.f / (1.f + __expf(-g[j])), silu = g[j] * sigmoid;
		dg.set(j, dy[j] * u[j] * (sigmoid + silu * (1.f - sigmoid)));
		du.set(j, dy[j] * silu);
	}
	store<WIDE>((T *)a.dgate + i, dg, left);
	store<WIDE>((T *)a.dup + i, du, left);
}
FORMS(swiglu_grad, SwiGLUGradArgs, 256)
