// The end of a decode step: from logits, or from each block's best of them, to a token and its embedding.
#include "step.cuh"

struct StepPick {
	const unsigned long long *best; // [rows, blocks] of step_logits
	const bf16 *table;              // [V, C]
	int *tokens;                    // [rows]
	bf16 *x;                        // [rows, C], or nullptr
	int blocks, C;
};

// A block takes a row.
extern "C" __global__ void __launch_bounds__(256) step_pick(const __grid_constant__ StepPick a) {
	__shared__ unsigned long long best[8];
	step_begin();
	step_wait();
	unsigned long long key = 0;
	for (int i = threadIdx.x; i < a.blocks; i += blockDim.x)
		key = max(key, __ldcg(a.best + int64_t(blockIdx.x) * a.blocks + i));
#pragma unroll
	for (int o = 16; o > 0; o /= 2)
		key = max(key, __shfl_xor_sync(~0u, key, o));
	if (threadIdx.x % 32 == 0)
		best[threadIdx.x / 32] = key;
	__syncthreads();
#pragma unroll
	for (int w = 0; w < 8; w++)
		key = max(key, best[w]);
	const int token = step_token(key);
	if (threadIdx.x == 0)
		a.tokens[blockIdx.x] = token;
	if (a.x)
		for (int c = threadIdx.x * 8; c < a.C; c += blockDim.x * 8)
			*(uint4 *)(a.x + int64_t(blockIdx.x) * a.C + c) = __ldg((const uint4 *)(a.table + int64_t(token) * a.C + c));
}
