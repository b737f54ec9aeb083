// The two small kernels around the backward pass: the statistics of every query before it, the shared rope gradient after.
#include "attention_params.cuh"

template <typename E> __device__ __forceinline__ float toFloat(E x);
template <> __device__ __forceinline__ float toFloat(float x) { return x; }
template <> __device__ __forceinline__ float toFloat(bf16 x) { return __bfloat162float(x); }

// statistics: grid [Tp/32, H, B], 256 threads. Eight threads take a row, 16 bytes each at a time.
template <typename E> __device__ __forceinline__ void statistics(const AttentionParams<E> &p) {
	constexpr int WIDE = 16 / sizeof(E);
	int t = blockIdx.x * 32 + threadIdx.x / 8, h = blockIdx.y, b = blockIdx.z;
	float sum = 0;
	if (t < p.T) {
		size_t row = (((size_t)b * p.T + t) * p.H + h) * p.Dv;
		for (int i = threadIdx.x % 8 * WIDE; i < p.Dv; i += 8 * WIDE) {
			uint4 x = *(const uint4 *)(p.o + row + i), y = *(const uint4 *)(p.dO + row + i);
#pragma unroll
			for (int e = 0; e < WIDE; e++) sum = fmaf(toFloat(((const E *)&x)[e]), toFloat(((const E *)&y)[e]), sum);
		}
	}
#pragma unroll
	for (int lanes = 4; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
	if (threadIdx.x % 8 == 0) {
		size_t row = (size_t)b * p.H + h;
		p.stats[row * paddedT(p.T) + t] = t < p.T ? make_float2(-p.lse[row * p.T + t] * LOG2E, sum) : make_float2(-INFINITY, 0);
	}
}

__device__ __forceinline__ void store(float *to, float x) { *to = x; }
__device__ __forceinline__ void store(bf16 *to, float x) { *to = __float2bfloat16(x); }

// ropeGradient: grid [ceil(T·R/256), B]. dKRope [B, T, R] = Σ over g of ropeParts [B, G, T, R], in that order.
template <typename E> __device__ __forceinline__ void ropeGradient(const AttentionParams<E> &p) {
	int i = blockIdx.x * 256 + threadIdx.x, n = p.T * p.R;
	if (i >= n) return;
	float sum = 0;
	for (int g = 0; g < p.G; g++) sum += p.ropeParts[((size_t)blockIdx.y * p.G + g) * n + i];
	store(p.dKRope + (size_t)blockIdx.y * n + i, sum);
}

extern "C" __global__ void attention_statistics_bf16(const __grid_constant__ AttentionParams<bf16> p) { statistics(p); }
extern "C" __global__ void attention_statistics_fp32(const __grid_constant__ AttentionParams<float> p) { statistics(p); }
extern "C" __global__ void attention_rope_gradient_bf16(const __grid_constant__ AttentionParams<bf16> p) { ropeGradient(p); }
extern "C" __global__ void attention_rope_gradient_fp32(const __grid_constant__ AttentionParams<float> p) { ropeGradient(p); }
