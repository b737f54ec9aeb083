// Output gates: y = o · sigmoid(g), where an element of g gates `per` elements of o that follow one another; and the first
// columns of rows, which a gate may be made of.
#include "vector.cuh"

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + __expf(-x)); }

struct GateArgs {
	const void *o, *g;
	void *y;
	int64_t n; // elements of o
	int per;
};
static_assert(sizeof(GateArgs) == 40);

// 2 passes, and g: a Pack a thread
template <typename T, bool WIDE> __device__ void gate(const GateArgs &a) {
	const int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * Pack<T>::N, left = a.n - i;
	if (left <= 0)
		return;
	Pack<T> o = load<WIDE>((const T *)a.o + i, left);
	int64_t by = i / a.per;
	int done = int(i - by * a.per); // elements that g[by] has gated
#pragma unroll
	for (int j = 0; j < Pack<T>::N; j++) {
		if (j < left)
			o.set(j, o[j] * sigmoid(float(((const T *)a.g)[by])));
		if (++done == a.per) {
			done = 0;
			by++;
		}
	}
	store<WIDE>((T *)a.y + i, o, left);
}
FORMS(gate, GateArgs, 256)

struct GateGradArgs {
	const void *o, *g, *dy;
	void *grad_o, *grad_g;
	int64_t n; // elements of g
	int per;
};
static_assert(sizeof(GateGradArgs) == 56);

// do = dy·σ and dg = σ·(1-σ)·Σ dy·o, by a warp for each element of g
template <typename T> __device__ void gate_grad(const GateGradArgs &a) {
	const int64_t i = int64_t(blockIdx.x) * 8 + threadIdx.x / 32;
	if (i >= a.n)
		return;
	const float s = sigmoid(float(((const T *)a.g)[i]));
	float sum = 0;
	for (int64_t j = i * a.per + threadIdx.x % 32; j < (i + 1) * a.per; j += 32) {
		const float dy = float(((const T *)a.dy)[j]);
		sum += dy * float(((const T *)a.o)[j]);
		((T *)a.grad_o)[j] = T(dy * s);
	}
	sum = warp_sum(sum);
	if (threadIdx.x % 32 == 0)
		((T *)a.grad_g)[i] = T(sum * s * (1.f - s));
}
extern "C" __global__ void __launch_bounds__(256) gate_grad_f32(const __grid_constant__ GateGradArgs a) { gate_grad<float>(a); }
extern "C" __global__ void __launch_bounds__(256) gate_grad_bf16(const __grid_constant__ GateGradArgs a) { gate_grad<bf16>(a); }

// The same where g has as many elements as o. 5 passes: o, g, dy, do, dg
template <typename T, bool WIDE> __device__ void gate_grad_each(const GateGradArgs &a) {
	const int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * Pack<T>::N, left = a.n - i;
	if (left <= 0)
		return;
	Pack<T> o = load<WIDE>((const T *)a.o + i, left), g = load<WIDE>((const T *)a.g + i, left), dy = load<WIDE>((const T *)a.dy + i, left);
	Pack<T> grad_o, grad_g;
#pragma unroll
	for (int j = 0; j < Pack<T>::N; j++) {
		const float s = sigmoid(g[j]), d = dy[j] * s;
		grad_o.set(j, d);
		grad_g.set(j, d * o[j] * (1.f - s));
	}
	store<WIDE>((T *)a.grad_o + i, grad_o, left);
	store<WIDE>((T *)a.grad_g + i, grad_g, left);
}
FORMS(gate_grad_each, GateGradArgs, 256)

struct ColumnsArgs {
	const void *x; // [rows, from]
	void *y;       // [rows, to]
	int64_t n;     // elements of y
	int from, to;
};
static_assert(sizeof(ColumnsArgs) == 32);

// y has the first columns of x, and zeros behind them
template <typename T> __device__ void columns(const ColumnsArgs &a) {
	const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
	if (i >= a.n)
		return;
	const int64_t row = i / a.to;
	const int c = int(i - row * a.to);
	((T *)a.y)[i] = c < a.from ? ((const T *)a.x)[row * a.from + c] : T(0.f);
}
extern "C" __global__ void __launch_bounds__(256) columns_f32(const __grid_constant__ ColumnsArgs a) { columns<float>(a); }
extern "C" __global__ void __launch_bounds__(256) columns_bf16(const __grid_constant__ ColumnsArgs a) { columns<bf16>(a); }
