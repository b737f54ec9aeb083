// What kernels for Hopper share: bulk copies into shared memory, and the other blocks of a cluster.
#pragma once
#include "mma.cuh"

__device__ inline uint32_t shared_address(const void *p) { return uint32_t(__cvta_generic_to_shared(p)); }

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
__device__ inline void barrier_init(uint64_t *barrier) {
	asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(barrier)));
}

__device__ inline void barrier_wait(uint64_t *barrier, int parity) {
	asm volatile("{\n.reg .pred done;\n"
	             "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
	             "@!done bra again;\n}" ::"r"(shared_address(barrier)), "r"(parity) : "memory");
}

// bulk_load copies a multiple of 16 bytes, and the barrier completes when they are there.
__device__ inline void bulk_load(void *to, const void *from, uint32_t bytes, uint64_t *barrier) {
	barrierExpect(shared_address(barrier), bytes);
	copyBulk(shared_address(to), from, bytes, shared_address(barrier));
}

__device__ inline int cluster_rank() {
	int rank;
	asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
	return rank;
}

// cluster_sync waits for all blocks of the cluster, and makes their writes to each other's shared memory seen.
__device__ inline void cluster_sync() {
	asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// cluster_here and cluster_all_here make sure that every block of the cluster runs before one writes into another.
__device__ inline void cluster_here() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
__device__ inline void cluster_all_here() { asm volatile("barrier.cluster.wait.aligned;" ::: "memory"); }

// cluster_store writes to the same place in the shared memory of another block.
__device__ inline void cluster_store(const float *place, int rank, float x) {
	uint32_t there;
	asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(place)), "r"(rank));
	asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there), "f"(x) : "memory");
}
#endif
