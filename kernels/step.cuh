// What the kernels of a decode step share. They are launched so that each may start while the one before it still runs:
// it asks for weights first, which depend on nothing, then calls step_wait, and only then touches what other kernels
// wrote, always through L2 (__ldcg): lines in L1 may be older.
#pragma once
#include "vector.cuh"

// step_begin lets the next kernel of the stream start, as far as there is room for its blocks.
__device__ __forceinline__ void step_begin() {
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// step_wait returns when all kernels before this one have ended and what they wrote is to be seen.
__device__ __forceinline__ void step_wait() {
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// step_bring asks for a share of each range to be brought into L2. One thread of each block calls it.
struct StepAhead {
	const char *from[4];
	int64_t bytes[4]; // multiples of 16
};
__device__ __forceinline__ void step_bring(const StepAhead &a) {
#if __CUDA_ARCH__ >= 900
#pragma unroll
	for (int i = 0; i < 4; i++) {
		const int64_t share = (a.bytes[i] / gridDim.x + 1 + 127) / 128 * 128, lo = share * blockIdx.x, hi = min(lo + share, a.bytes[i]);
		for (int64_t at = lo; at < hi; at += 16384)
			asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(a.from[i] + at), "r"(int(min(int64_t(16384), hi - at))) : "memory");
	}
#endif
}

// A step_key orders logits, the first of equals highest: the greatest key of a row names its token.
__device__ __forceinline__ unsigned long long step_key(float x, int token) {
	const unsigned bits = __float_as_uint(x);
	return (unsigned long long)(bits & 0x80000000u ? ~bits : bits | 0x80000000u) << 32 | ~unsigned(token);
}
__device__ __forceinline__ int step_token(unsigned long long key) { return int(~unsigned(key)); }
