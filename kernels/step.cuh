// What the fused kernels of a decode step share, which are for up to 16 rows. They are launched so that each may start
// while the one before it still runs: it asks for weights first, which depend on nothing, then calls step_wait, and
// only then touches what other kernels wrote, always through L2 (__ldcg): lines in L1 may be older.
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

// A step_key orders logits, the first of equals highest: the greatest key of a row names its token.
__device__ __forceinline__ unsigned long long step_key(float x, int token) {
	const unsigned bits = __float_as_uint(x);
	return (unsigned long long)(bits & 0x80000000u ? ~bits : bits | 0x80000000u) << 32 | ~unsigned(token);
}
__device__ __forceinline__ int step_token(unsigned long long key) { return int(~unsigned(key)); }
