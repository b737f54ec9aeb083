// Matrix instructions and asynchronous copies, as the kernels use them. Fragments follow the PTX manual: in a warp of
// lanes 4g+t, an accumulator block of 16 rows by 8 columns is d[0..1] = row g, columns 2t and 2t+1; d[2..3] = row g+8.
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER 1
#define ON_HOPPER(...) __VA_ARGS__
#else
#define ON_HOPPER(...) // other devices have the kernel, without a body
#endif

__device__ __forceinline__ uint32_t smemAddress(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

__device__ __forceinline__ uint32_t packBF16(float lo, float hi) {
	uint32_t r;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
	return r;
}
__device__ __forceinline__ float lowBF16(uint32_t x) { return __uint_as_float(x << 16); }
__device__ __forceinline__ float highBF16(uint32_t x) { return __uint_as_float(x & 0xffff0000u); }

// exp2 as the special function unit gives it (2 ulp); exp2(-inf) = 0.
__device__ __forceinline__ float fastExp2(float x) {
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

// ldmatrix4 reads four 8x8 blocks; lane i names row i%8 of block i/8.
__device__ __forceinline__ void ldmatrix4(uint32_t (&r)[4], uint32_t addr) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(addr) : "memory");
}
__device__ __forceinline__ void ldmatrix4Trans(uint32_t (&r)[4], uint32_t addr) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(addr) : "memory");
}

// mma16816 adds a [16,16] · b [16,8] to d [16,8].
__device__ __forceinline__ void mma16816(float *d, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		: "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// copyAsync16 copies 16 bytes into shared memory, or zeros when valid is false (src is then not read).
__device__ __forceinline__ void copyAsync16(uint32_t dst, const void *src, bool valid) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(valid ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copyCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void copyWait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// A running maximum of scores moves only once they pass it by a factor of 2^slack, as in FlashAttention-4: most blocks
// then rescale nothing. Weights stay below 2^slack, their precision being relative.
constexpr float slack = 8.f;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
// barrierExpect arrives, and has the barrier wait for bytes of copyBulk, which brings a multiple of 16 that lie side by
// side.
__device__ __forceinline__ void barrierExpect(uint32_t bar, int bytes) {
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copyBulk(uint32_t dst, const void *src, int bytes, uint32_t bar) {
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(dst), "l"(src), "r"(bytes), "r"(bar) : "memory");
}
#endif

#ifdef HOPPER

// uniform is x, the same in all threads of a warp. After a shuffle the compiler knows that, and makes the descriptors
// of products by one addition in uniform registers, where each took two moves that a product waits for.
__device__ __forceinline__ uint32_t uniform(uint32_t x) { return __shfl_sync(~0u, x, 0); }

// warpgroup is the number of a thread's warpgroup.
__device__ __forceinline__ int warpgroup() { return uniform(threadIdx.x / 128); }

// moreRegisters and fewerRegisters move registers from the threads that copy to those that compute. Too few are dear:
// what the copying loop spills is read back behind its own copies in the queue to memory, which cost 15% of a page-1
// cache.
template <int REGS> __device__ __forceinline__ void moreRegisters() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGS)); }
template <int REGS> __device__ __forceinline__ void fewerRegisters() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGS)); }

__device__ __forceinline__ void barrierInit(uint32_t bar, int count) {
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory");
}
__device__ __forceinline__ void barrierInitFence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void barrierArrive(uint32_t bar) {
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
__device__ __forceinline__ void barrierWait(uint32_t bar, uint32_t parity) {
	asm volatile("{\n.reg .pred p;\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@!p bra WAIT;\n}" ::"r"(bar), "r"(parity) : "memory");
}
__device__ __forceinline__ bool barrierTest(uint32_t bar, uint32_t parity) {
	uint32_t done;
	asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}" : "=r"(done) : "r"(bar), "r"(parity) : "memory");
	return done;
}
// proxyFence makes ordinary and cp.async writes to shared memory visible to wgmma.
__device__ __forceinline__ void proxyFence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ void wgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> __device__ __forceinline__ void wgmmaWait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

// swizzled describes a shared-memory operand of 128-byte rows under the 128-byte swizzle: blocks of 8 rows follow each
// other at 1024 bytes. Operands whose rows run along K use only that; transposed ones, wider than 64 columns, find the
// next 64 columns wide bytes on. It is the low word of the descriptor, so that an offset of n bytes adds n / 16;
// descriptor adds the constant high word.
__device__ __forceinline__ uint32_t swizzled(uint32_t addr, uint32_t wide = 0) { return addr >> 4 | wide >> 4 << 16; }
__device__ __forceinline__ uint64_t descriptor(uint32_t low, int bytes) {
	return (uint64_t)(1024 >> 4 | 1 << 30) << 32 | (low + bytes / 16);
}

#define ACC8(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define ACC16(d, i) ACC8(d, i), ACC8(d, i + 8)
#define ACC32(d, i) ACC16(d, i), ACC16(d, i + 16)
#define ACC64(d, i) ACC32(d, i), ACC32(d, i + 32)

// wgmma<trans>(d, a, b, add): d [64,N] = a [64,16] · b [16,N] (+ d when add != 0), asynchronously. a is a register
// fragment or a descriptor; trans = 1 says that b's shared-memory rows run along N, 0 that they run along K. The other
// arguments of the macro number the operands of the two forms: a, b, add, trans.
#define WGMMA_SHAPE(N, COUNT, RA, RB, RADD, RT, SA, SB, SADD, ST, ...) \
	template <int trans> __device__ __forceinline__ void wgmma(float (&d)[COUNT], const uint32_t (&a)[4], uint64_t b, int add) { \
		asm volatile("{.reg .pred p; setp.ne.b32 p, " RADD ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" \
			WGMMA_ACC_##N "}, {" RA "}, " RB ", p, 1, 1, " RT ";}" \
			: __VA_ARGS__ : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(trans)); \
	} \
	template <int trans> __device__ __forceinline__ void wgmma(float (&d)[COUNT], uint64_t a, uint64_t b, int add) { \
		asm volatile("{.reg .pred p; setp.ne.b32 p, " SADD ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" \
			WGMMA_ACC_##N "}, " SA ", " SB ", p, 1, 1, 0, " ST ";}" \
			: __VA_ARGS__ : "l"(a), "l"(b), "r"(add), "n"(trans)); \
	}
#define WGMMA_ACC_32 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
WGMMA_SHAPE(32, 16, "%16,%17,%18,%19", "%20", "%21", "%22", "%16", "%17", "%18", "%19", ACC16(d, 0))
#define WGMMA_ACC_64 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
WGMMA_SHAPE(64, 32, "%32,%33,%34,%35", "%36", "%37", "%38", "%32", "%33", "%34", "%35", ACC32(d, 0))
#define WGMMA_ACC_96  \
	"%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
	"%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
WGMMA_SHAPE(96, 48, "%48,%49,%50,%51", "%52", "%53", "%54", "%48", "%49", "%50", "%51", ACC32(d, 0), ACC16(d, 32))
#define WGMMA_ACC_128  \
	"%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
	"%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
WGMMA_SHAPE(128, 64, "%64,%65,%66,%67", "%68", "%69", "%70", "%64", "%65", "%66", "%67", ACC64(d, 0))
#define WGMMA_ACC_192  \
	"%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
	"%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63," \
	"%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
WGMMA_SHAPE(192, 96, "%96,%97,%98,%99", "%100", "%101", "%102", "%96", "%97", "%98", "%99", ACC64(d, 0), ACC32(d, 64))

#undef WGMMA_SHAPE
#endif
