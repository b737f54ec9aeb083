// The classifier's kernel for wide vocabularies on Hopper: a cluster of four blocks takes a row, a quarter of it each,
// into shared memory. So the row is read from memory once; with a quarter of 128,256 columns three blocks share a
// multiprocessor, and one loads while another computes or writes. (One block a row, read again from L2, reached 54% of
// the copy's bandwidth: two rows a multiprocessor are more than L2 keeps.)
#include "classifier.cuh"
#include "cluster.cuh"

constexpr int threads = 256, packs = 4, blocks = 4, chunk_columns = threads * packs * 8, most_chunks = 14;

__device__ inline float exp2_fast(float x) {
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

__device__ inline float low(uint32_t u) { return __uint_as_float(u << 16); }
__device__ inline float high(uint32_t u) { return __uint_as_float(u & 0xffff0000u); }
__device__ inline uint32_t max2(uint32_t x, uint32_t y) {
	__nv_bfloat162 m = __hmax2(*(__nv_bfloat162 *)&x, *(__nv_bfloat162 *)&y);
	return *(uint32_t *)&m;
}

constexpr float log2e = 1.44269504f;

// take adds a chunk, of which this thread has up to four packs, to what it has seen of the row.
__device__ inline void take(MaxSum &mine, const uint4 *pack, int first, int columns) {
	constexpr uint32_t nothing = 0xff80ff80u; // -∞
	uint32_t x[packs][4];
	uint32_t top = nothing;
#pragma unroll
	for (int p = 0; p < packs; p++) {
		const int at = first + p * threads, left = columns - at * 8;
		uint4 v = left > 0 ? pack[at] : make_uint4(nothing, nothing, nothing, nothing);
		x[p][0] = v.x, x[p][1] = v.y, x[p][2] = v.z, x[p][3] = v.w;
		if (left > 0 && left < 8) // the row ends within
#pragma unroll
			for (int j = 0; j < 4; j++)
				x[p][j] = 2 * j + 1 < left ? x[p][j] : 2 * j < left ? (x[p][j] & 0xffffu) | 0xff800000u : nothing;
#pragma unroll
		for (int j = 0; j < 4; j++)
			top = max2(top, x[p][j]);
	}
	const float m = fmaxf(mine.max, fmaxf(low(top), high(top)));
	if (m == -INFINITY)
		return;
	float sum = mine.sum * exp2_fast((mine.max - m) * log2e);
#pragma unroll
	for (int p = 0; p < packs; p++)
#pragma unroll
		for (int j = 0; j < 4; j++)
			sum += exp2_fast(fmaf(low(x[p][j]), log2e, -m * log2e)) + exp2_fast(fmaf(high(x[p][j]), log2e, -m * log2e));
	mine = {m, sum};
}

extern "C" __global__ void __launch_bounds__(threads, 3) classifier_wide_bf16(const __grid_constant__ ClassifierArgs a) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	extern __shared__ __align__(128) uint4 pack[]; // the block's quarter of the row
	__shared__ uint64_t loaded[most_chunks];
	__shared__ MaxSum parts[threads / 32], quarters[blocks];
	const int64_t row = blockIdx.x / blocks;
	const int rank = cluster_rank(), quarter = (a.V + blocks * 64 - 1) / (blocks * 64) * 64, first = rank * quarter;
	const int columns = max(0, min(quarter, a.V - first)), chunks = (columns + chunk_columns - 1) / chunk_columns;
	bf16 *logits = (bf16 *)a.logits + row * a.stride + first;
	const int target = a.targets[row];

	if (target < 0) { // all four blocks agree
		if (rank == 0 && threadIdx.x == 0)
			a.nll[row] = a.lse[row] = 0;
		for (int i = threadIdx.x; a.weight && i * 8 < columns; i += threads)
			((uint4 *)logits)[i] = make_uint4(0, 0, 0, 0);
		return;
	}
	if (threadIdx.x == 0) {
		for (int i = 0; i < chunks; i++)
			barrier_init(&loaded[i]);
		asm volatile("fence.mbarrier_init.release.cluster;");
		for (int i = 0; i < chunks; i++) {
			int count = min(chunk_columns, columns - i * chunk_columns);
			bulk_load(pack + i * threads * packs, logits + i * chunk_columns, (count + 7) / 8 * 16, &loaded[i]);
		}
	}
	__syncthreads();
	cluster_here();
	MaxSum mine = {-INFINITY, 0};
	for (int i = 0; i < chunks; i++) {
		barrier_wait(&loaded[i], 0);
		take(mine, pack, i * threads * packs + threadIdx.x, columns);
	}

#pragma unroll
	for (int o = 16; o > 0; o /= 2)
		mine = join(mine, {__shfl_xor_sync(~0u, mine.max, o), __shfl_xor_sync(~0u, mine.sum, o)});
	if (threadIdx.x % 32 == 0)
		parts[threadIdx.x / 32] = mine;
	__syncthreads();
	mine = parts[0];
	for (int w = 1; w < threads / 32; w++)
		mine = join(mine, parts[w]);
	cluster_all_here();
	if (threadIdx.x < blocks) {
		cluster_store(&quarters[rank].max, threadIdx.x, mine.max);
		cluster_store(&quarters[rank].sum, threadIdx.x, mine.sum);
	}
	cluster_sync();
	MaxSum total = quarters[0];
	for (int r = 1; r < blocks; r++)
		total = join(total, quarters[r]);
	const float lse = total.max + __logf(total.sum);
	const int mark = target - first; // within this quarter, or not
	if (threadIdx.x == 0 && unsigned(mark) < unsigned(columns))
		a.nll[row] = lse - float(((const bf16 *)pack)[mark]);
	if (threadIdx.x == 0 && rank == 0)
		a.lse[row] = lse;
	if (!a.weight)
		return;

	const float weight = a.scale * a.weight[0], p_weight = weight * (1 + 2 * a.zloss * lse), base = -lse * log2e;
#pragma unroll 4
	for (int i = threadIdx.x; i * 8 < columns; i += threads) {
		uint4 v = pack[i];
		uint32_t *x = (uint32_t *)&v;
#pragma unroll
		for (int j = 0; j < 4; j++) {
			float p = exp2_fast(fmaf(low(x[j]), log2e, base)) * p_weight, q = exp2_fast(fmaf(high(x[j]), log2e, base)) * p_weight;
			if (i == mark / 8 && mark >= 0) {
				p -= mark % 8 == 2 * j ? weight : 0;
				q -= mark % 8 == 2 * j + 1 ? weight : 0;
			}
			__nv_bfloat162 both = __floats2bfloat162_rn(p, q);
			x[j] = *(uint32_t *)&both;
		}
		((uint4 *)logits)[i] = v;
	}
#endif
}
