// The optimizer on flat buffers: the gradient's norm with the clip factor, then AdamW. What changes from step to step
// is read from a small device buffer, so that a captured graph serves every step.
#include "vector.cuh"

struct Hyper {
	float lr, beta1, beta2, eps, decay;
	float correct1, correct2; // 1 / (1 - beta^step)
	float clip;               // largest norm, 0 for none
	float scale;              // of the gradients as they lie: 1 / micro-batches
};
static_assert(sizeof(Hyper) == 36);

struct NormArgs {
	const float *g;
	int64_t n;
	double *part; // [blocks]
	const Hyper *hyper;
	float *norm; // [2]: the norm, and what each gradient is multiplied by
	int blocks;
};
static_assert(sizeof(NormArgs) == 48);

__device__ inline double sum256(double x) { // of a block's 256 threads, in a fixed order
	__shared__ double all[8];
#pragma unroll
	for (int o = 16; o > 0; o /= 2)
		x += __shfl_xor_sync(~0u, x, o);
	if (threadIdx.x % 32 == 0)
		all[threadIdx.x / 32] = x;
	__syncthreads();
	x = 0;
	for (int w = 0; w < 8; w++)
		x += all[w];
	return x;
}

// part[block] = Σ g²: 1 pass
template <typename T, bool WIDE> __device__ void squares(const NormArgs &a) {
	const int64_t step = int64_t(gridDim.x) * 256 * 4;
	float sum[4] = {};
#pragma unroll 4
	for (int64_t i = (int64_t(blockIdx.x) * 256 + threadIdx.x) * 4; i < a.n; i += step) {
		Pack<float> g = load<WIDE>(a.g + i, a.n - i);
#pragma unroll
		for (int j = 0; j < 4; j++)
			sum[j] += g[j] * g[j];
	}
	double total = sum256((double(sum[0]) + sum[1]) + (double(sum[2]) + sum[3]));
	if (threadIdx.x == 0)
		a.part[blockIdx.x] = total;
}
FORM(sum_squares, squares, float, true, NormArgs, 256)
FORM(sum_squares_any, squares, float, false, NormArgs, 256)

// norm = scale · sqrt(Σ part), and the factor that clips it; by one block
extern "C" __global__ void __launch_bounds__(256) clip_factor(const __grid_constant__ NormArgs a) {
	double sum = 0;
	for (int i = threadIdx.x; i < a.blocks; i += 256)
		sum += a.part[i];
	sum = sum256(sum);
	if (threadIdx.x != 0)
		return;
	float norm = float(sqrt(sum)) * a.hyper->scale, clip = a.hyper->clip;
	a.norm[0] = norm;
	a.norm[1] = a.hyper->scale * (clip > 0 && norm > clip ? clip / norm : 1.f);
}

struct AdamWArgs {
	float *w, *m, *v;
	const float *g;
	bf16 *copy; // of w for the products, nil in fp32
	const Hyper *hyper;
	const float *norm; // of clip_factor
	int64_t n, decayed; // the first `decayed` weights decay
};
static_assert(sizeof(AdamWArgs) == 72);

// 30 bytes a weight: w, g, m, v in, w, m, v and the copy out
template <typename T, bool WIDE> __device__ void step(const AdamWArgs &a) {
	const int64_t i = (int64_t(blockIdx.x) * 256 + threadIdx.x) * 4, left = a.n - i;
	if (left <= 0)
		return;
	const Hyper h = *a.hyper;
	const float factor = a.norm[1];
	Pack<float> w = load<WIDE>(a.w + i, left), g = load<WIDE>(a.g + i, left), m = load<WIDE>(a.m + i, left), v = load<WIDE>(a.v + i, left);
#pragma unroll
	for (int j = 0; j < 4; j++) {
		float x = g[j] * factor;
		m.v[j] = h.beta1 * m[j] + (1 - h.beta1) * x;
		v.v[j] = h.beta2 * v[j] + (1 - h.beta2) * x * x;
		float decay = i + j < a.decayed ? h.decay * w[j] : 0;
		w.v[j] -= h.lr * (m[j] * h.correct1 / (sqrtf(v[j] * h.correct2) + h.eps) + decay);
	}
	store<WIDE>(a.w + i, w, left);
	store<WIDE>(a.m + i, m, left);
	store<WIDE>(a.v + i, v, left);
	if (!a.copy)
		return;
	if constexpr (WIDE) {
		bf16 c[4] = {bf16(w[0]), bf16(w[1]), bf16(w[2]), bf16(w[3])};
		*reinterpret_cast<uint2 *>(a.copy + i) = *reinterpret_cast<const uint2 *>(c);
	} else {
#pragma unroll
		for (int j = 0; j < 4; j++)
			if (j < left)
				a.copy[i + j] = bf16(w[j]);
	}
}
FORM(adamw, step, float, true, AdamWArgs, 256)
FORM(adamw_any, step, float, false, AdamWArgs, 256)
