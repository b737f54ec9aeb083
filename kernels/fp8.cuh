// An 8-bit cache: elements are E4M3, of which each vector (a head's key, value, tied state or latent of a token) has a
// scale of its own, a power of two in one byte. Both are exact in bf16, so that a kernel which has read them computes
// what it would on a bf16 cache of the same values.
#pragma once
#include "decode_plan.cuh"

// Elements lie where those of a bf16 cache do, at half the distance; k and v of decode are their addresses. The scales
// of a head's tokens in a page lie side by side: [pages, G, page].
struct DecodeFP8Args {
	DecodeArgs decode;
	const uint8_t *kScale, *vScale;
};
static_assert(sizeof(DecodeFP8Args) == 176);

// What a kernel is told of its cache's type besides.
struct Halves {
	static constexpr bool FP8 = false;
};
struct Scaled {
	static constexpr bool FP8 = true;
	const uint8_t *k, *v;
};

#ifdef HOPPER
// scaleOf is 2^(byte-127) in both halves, in bf16. That of 255, with elements that are NaN, may be anything but 0.
__device__ __forceinline__ uint32_t scaleOf(int byte) { return byte << 7 | byte << 23; }

// widen2 makes bf16 of two elements in float16: by float32, whose upper halves are exact, and a product that is.
__device__ __forceinline__ uint32_t widen2(uint32_t x, uint32_t scale) {
	uint32_t lo, hi, y;
	asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=r"(lo), "=r"(hi) : "r"(x));
	asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(y) : "r"(__byte_perm(lo, hi, 0x7632)), "r"(scale));
	return y;
}

// widen4 makes bf16 of four elements.
__device__ __forceinline__ uint2 widen4(uint32_t x, uint32_t scale) {
	uint32_t lo, hi;
	asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.rn.f16x2.e4m3x2 %0, l; cvt.rn.f16x2.e4m3x2 %1, h;}" : "=r"(lo), "=r"(hi) : "r"(x));
	return uint2{widen2(lo, scale), widen2(hi, scale)};
}

// widen16 makes bf16 of sixteen elements and stores them in shared memory, eight at a place. Eight lanes whose places
// lie 32 bytes apart would meet in the same banks: the upper four store their second half first, and name its place
// first.
__device__ __forceinline__ void widen16(uint32_t first, uint32_t second, const uint4 &x, uint32_t scale, bool upper) {
	const uint2 a = widen4(upper ? x.z : x.x, scale), b = widen4(upper ? x.w : x.y, scale);
	const uint2 c = widen4(upper ? x.x : x.z, scale), d = widen4(upper ? x.y : x.w, scale);
	asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(first), "r"(a.x), "r"(a.y), "r"(b.x), "r"(b.y) : "memory");
	asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(second), "r"(c.x), "r"(c.y), "r"(d.x), "r"(d.y) : "memory");
}

__device__ __forceinline__ void storeShared(uint32_t dst, const uint4 &x) {
	asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(dst), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w) : "memory");
}

__device__ __forceinline__ void prefetchL2(const void *p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

// scaleAt is the place of a slot's scale among those of head 0; each head's lie a page further on.
// Memory holds less than 2^32 of them.
__device__ __forceinline__ uint32_t scaleAt(const DecodeArgs &p, uint32_t slot) { return (slot >> p.pageShift) * ((p.G - 1) << p.pageShift) + slot; }
#endif
