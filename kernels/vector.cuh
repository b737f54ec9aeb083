// What the memory-bound kernels share: 16-byte accesses with a scalar way out, and sums over a warp or a block.
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;

// A Pack is 16 bytes of T: what one thread moves at a time.
template <typename T> struct alignas(16) Pack {
	static constexpr int N = 16 / sizeof(T);
	T v[N];
	__device__ float operator[](int i) const { return float(v[i]); }
	__device__ void set(int i, float x) { v[i] = T(x); }
};

__device__ inline bool aligned(const void *p) { return (reinterpret_cast<uintptr_t>(p) & 15) == 0; }

// load reads a Pack in one access if WIDE, else the `left` elements that are there; the rest become 0. The kernels come
// in both forms: a choice at run time is compiled into predicated code, which took 40 instructions an element in the
// norms.
template <bool WIDE, typename T> __device__ inline Pack<T> load(const T *p, int64_t left) {
	Pack<T> x;
	if constexpr (WIDE) {
		*reinterpret_cast<uint4 *>(&x) = *reinterpret_cast<const uint4 *>(p);
	} else {
#pragma unroll
		for (int i = 0; i < Pack<T>::N; i++)
			x.v[i] = i < left ? p[i] : T(0.f);
	}
	return x;
}

template <bool WIDE, typename T> __device__ inline void store(T *p, const Pack<T> &x, int64_t left) {
	if constexpr (WIDE) {
		*reinterpret_cast<uint4 *>(p) = *reinterpret_cast<const uint4 *>(&x);
	} else {
#pragma unroll
		for (int i = 0; i < Pack<T>::N; i++)
			if (i < left)
				p[i] = x.v[i];
	}
}

// copy_ahead starts the copy of 16 or 4 bytes into shared memory; copies_done<N> waits until all but the last N groups,
// each closed by copies_group, are there for the thread that asked for them.
template <int BYTES> __device__ inline void copy_ahead(void *to, const void *from) {
	uint32_t there = uint32_t(__cvta_generic_to_shared(to));
	if constexpr (BYTES == 16)
		asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(there), "l"(from) : "memory");
	else
		asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(there), "l"(from) : "memory");
}
__device__ inline void copies_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ inline void copies_done() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

__device__ inline float warp_sum(float x) {
#pragma unroll
	for (int o = 16; o > 0; o /= 2)
		x += __shfl_xor_sync(~0u, x, o);
	return x;
}

// FORMS makes the kernels NAME_f32 and NAME_bf16 of a template over the element type and WIDE, and NAME_any_f32 and
// NAME_any_bf16 for sizes and addresses that are no multiple of 16 bytes. The last arguments are their launch bounds.
#define FORM(kernel, name, T, WIDE, Args, ...) \
	extern "C" __global__ void __launch_bounds__(__VA_ARGS__) kernel(const __grid_constant__ Args a) { name<T, WIDE>(a); }
#define FORMS(name, Args, ...) \
	FORM(name##_f32, name, float, true, Args, __VA_ARGS__) \
	FORM(name##_bf16, name, bf16, true, Args, __VA_ARGS__) \
	FORM(name##_any_f32, name, float, false, Args, __VA_ARGS__) \
	FORM(name##_any_bf16, name, bf16, false, Args, __VA_ARGS__)
