// GeGLU: y = gelu(gate) · up, elementwise, with the tanh form of GELU.
#include "gelu.cuh"
#include "vector.cuh"

struct GeGLUArgs {
	const void *gate, *up;
	void *y;
	int64_t n;
};
static_assert(sizeof(GeGLUArgs) == 32);

// 3 passes: gate, up, y
template <typename T, bool WIDE> __device__ void geglu(const GeGLUArgs &a) {
	const int64_t i = (int64_t(blockIdx.x) * 256 + threadIdx.x) * Pack<T>::N, left = a.n - i;
	if (left <= 0)
		return;
	Pack<T> g = load<WIDE>((const T *)a.gate + i, left), u = load<WIDE>((const T *)a.up + i, left);
#pragma unroll
	for (int j = 0; j < Pack<T>::N; j++)
		g.set(j, g[j] * gelu_gate(g[j]) * u[j]);
	store<WIDE>((T *)a.y + i, g, left);
}
FORMS(geglu, GeGLUArgs, 256)

struct GeGLUGradArgs {
	const void *gate, *up, *dy;
	void *dgate, *dup;
	int64_t n;
};
static_assert(sizeof(GeGLUGradArgs) == 48);

// 5 passes: gate, up, dy, dgate, dup
template <typename T, bool WIDE> __device__ void geglu_grad(const GeGLUGradArgs &a) {
	const int64_t i = (int64_t(blockIdx.x) * 256 + threadIdx.x) * Pack<T>::N, left = a.n - i;
	if (left <= 0)
		return;
	Pack<T> g = load<WIDE>((const T *)a.gate + i, left), u = load<WIDE>((const T *)a.up + i, left), dy = load<WIDE>((const T *)a.dy + i, left);
	Pack<T> dg, du;
#pragma unroll
	for (int j = 0; j < Pack<T>::N; j++) {
		const float s = gelu_gate(g[j]), slope = 2.f * GELU_ROOT * (1.f + 3.f * GELU_CUBE * g[j] * g[j]); // of 2u
		dg.set(j, dy[j] * u[j] * (s + g[j] * (s * (1.f - s)) * slope));
		du.set(j, dy[j] * g[j] * s);
	}
	store<WIDE>((T *)a.dgate + i, dg, left);
	store<WIDE>((T *)a.dup + i, du, left);
}
FORMS(geglu_grad, GeGLUGradArgs, 256)
