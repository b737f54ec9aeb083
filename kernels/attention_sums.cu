// The small kernels around the backward pass: the statistics of every query before it, and where attention is masked the
// last query of every key; the shared rope gradient after.
#include "attention_args.cuh"

// statistics: grid [Tp/32, H, B], 256 threads. Eight threads take a row, of bf16 16 bytes each at a time. It also sets
// the queue to zero for the two kernels that follow.
template <typename E> __device__ __forceinline__ void statistics(const AttentionArgs<E> &p) {
	int t = blockIdx.x * 32 + threadIdx.x / 8, h = blockIdx.y, b = blockIdx.z, lane = threadIdx.x % 8;
	if (threadIdx.x < 2 && blockIdx.x + blockIdx.y + blockIdx.z == 0) p.queue[threadIdx.x] = 0;
	float sum = 0;
	if (t < p.T) {
		const E *o = p.o + (((size_t)b * p.T + t) * p.H + h) * p.Dv, *dO = p.dO + (o - p.o);
		if constexpr (sizeof(E) == 2) {
			for (int i = lane * 8; i < p.Dv; i += 64) {
				uint4 x = *(const uint4 *)(o + i), y = *(const uint4 *)(dO + i);
				const uint32_t *xs = &x.x, *ys = &y.x;
#pragma unroll
				for (int e = 0; e < 4; e++) sum = fmaf(lowBF16(xs[e]), lowBF16(ys[e]), fmaf(highBF16(xs[e]), highBF16(ys[e]), sum));
			}
		} else {
			for (int i = lane; i < p.Dv; i += 8) sum = fmaf(o[i], dO[i], sum);
		}
	}
#pragma unroll
	for (int lanes = 4; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
	if (lane == 0) {
		size_t row = (size_t)b * p.H + h;
		p.stats[row * paddedT(p.T) + t] = t < p.T ? make_float2(-p.lse[row * p.T + t] * LOG2E, sum) : make_float2(-INFINITY, 0);
	}
}

__device__ __forceinline__ void store(float *to, float x) { *to = x; }
__device__ __forceinline__ void store(bf16 *to, float x) { *to = __float2bfloat16(x); }

// ropeGradient: grid [ceil(T·R/256), B]. dKRope [B, T, R] = Σ over g of ropeParts [B, G, T, R], in that order.
template <typename E> __device__ __forceinline__ void ropeGradient(const AttentionArgs<E> &p) {
	int i = blockIdx.x * 256 + threadIdx.x, n = p.T * p.R;
	if (i >= n) return;
	float sum = 0;
	for (int g = 0; g < p.G; g++) sum += p.ropeParts[((size_t)blockIdx.y * p.G + g) * n + i];
	store(p.dKRope + (size_t)blockIdx.y * n + i, sum);
}

// attention_ends: grid [ceil(B·T/256)]. A query's first key never falls as queries go on, so that the last query that
// reads a key is found by halving.
extern "C" __global__ void attention_ends(const __grid_constant__ AttentionArgs<bf16> p) {
	const int i = blockIdx.x * 256 + threadIdx.x;
	if (i >= p.B * p.T) return;
	const int b = i / p.T, key = i % p.T;
	int last = key, end = p.T - 1;
	while (last < end) {
		const int t = (last + end + 1) / 2;
		if (firstKey(p, b, t) <= key) last = t;
		else end = t - 1;
	}
	((int *)p.ends)[i] = last + 1;
}

extern "C" __global__ void attention_statistics_bf16(const __grid_constant__ AttentionArgs<bf16> p) { statistics(p); }
extern "C" __global__ void attention_statistics_f32(const __grid_constant__ AttentionArgs<float> p) { statistics(p); }
extern "C" __global__ void attention_rope_gradient_bf16(const __grid_constant__ AttentionArgs<bf16> p) { ropeGradient(p); }
extern "C" __global__ void attention_rope_gradient_f32(const __grid_constant__ AttentionArgs<float> p) { ropeGradient(p); }
