// Embedding: rows of a table by token, and its gradient without atomics: tokens are sorted (stably, so that equal
// tokens keep their order), then runs of equal tokens are summed in that order.
#include "vector.cuh"

struct EmbedArgs {
	const int *tokens;
	const void *table; // [V, C]
	void *y;           // [N, C]
	int C, V;
};

// One block a row. A token outside the table reads as zeros.
template <typename T> __device__ void embed(const EmbedArgs &a) {
	constexpr int P = Pack<T>::N;
	const int token = a.tokens[blockIdx.x];
	const bool wide = a.C % P == 0 && aligned(a.table) && aligned(a.y), there = unsigned(token) < unsigned(a.V);
	for (int c = threadIdx.x * P; c < a.C; c += blockDim.x * P) {
		Pack<T> x = load((const T *)a.table + int64_t(there ? token : 0) * a.C + c, wide, there ? a.C - c : 0);
		if (!there)
#pragma unroll
			for (int j = 0; j < P; j++)
				x.set(j, 0);
		store((T *)a.y + int64_t(blockIdx.x) * a.C + c, x, wide, a.C - c);
	}
}
BOTH_TYPES(embed, 1024, EmbedArgs)

struct EmbedSortArgs {
	const int *tokens;
	int *key, *index; // [2, N] each; the sorted ones are in half (passes - 1) % 2
	int n, V, passes; // a pass sorts by 6 bits of the token
};

// A stable radix sort by one block: each warp counts and then places its own stretch, 32 tokens at a time.
// A token outside the table becomes V, the last.
extern "C" __global__ void __launch_bounds__(1024) embed_sort(const __grid_constant__ EmbedSortArgs a) {
	constexpr int digits = 64, warps = 32, batch = 8;
	__shared__ int place[digits * warps]; // by digit, then by warp
	__shared__ int sums[warps];
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	const int stretch = (a.n + 1023) / 1024 * 32, first = min(warp * stretch, a.n), last = min(first + stretch, a.n);
	for (int pass = 0; pass < a.passes; pass++) {
		const int *key = pass == 0 ? a.tokens : a.key + int64_t((pass - 1) % 2) * a.n, *index = a.index + int64_t((pass - 1) % 2) * a.n;
		int *key_out = a.key + int64_t(pass % 2) * a.n, *index_out = a.index + int64_t(pass % 2) * a.n;
		place[threadIdx.x] = place[threadIdx.x + 1024] = 0;
		__syncthreads();
		for (int phase = 0; phase < 2; phase++) {
			for (int i = first; i < last; i += 32 * batch) {
				int k[batch], x[batch];
#pragma unroll
				for (int b = 0; b < batch; b++) {
					int at = i + b * 32 + lane;
					if (at < last) {
						k[b] = key[at];
						if (pass == 0 && unsigned(k[b]) >= unsigned(a.V))
							k[b] = a.V;
						x[b] = phase == 0 ? 0 : pass == 0 ? at : index[at];
					}
				}
#pragma unroll
				for (int b = 0; b < batch; b++) {
					int at = i + b * 32 + lane;
					unsigned active = __ballot_sync(~0u, at < last);
					if (at < last) {
						int digit = (k[b] >> (6 * pass)) % digits, slot = digit * warps + warp;
						unsigned same = __match_any_sync(active, digit);
						int before = __popc(same & ((1u << lane) - 1)), to = place[slot];
						__syncwarp(active);
						if (before == 0)
							place[slot] = to + __popc(same);
						if (phase == 1) {
							key_out[to + before] = k[b];
							index_out[to + before] = x[b];
						}
					}
					__syncwarp();
				}
			}
			__syncthreads();
			if (phase == 1)
				break;
			// exclusive scan of the 2048 counts, two a thread
			int mine = place[2 * threadIdx.x], both = mine + place[2 * threadIdx.x + 1], up = both;
			for (int o = 1; o < 32; o *= 2) {
				int below = __shfl_up_sync(~0u, up, o);
				if (lane >= o)
					up += below;
			}
			if (lane == 31)
				sums[warp] = up;
			__syncthreads();
			int before = up - both;
			for (int w = 0; w < warp; w++)
				before += sums[w];
			place[2 * threadIdx.x] = before;
			place[2 * threadIdx.x + 1] = before + mine;
			__syncthreads();
		}
	}
}

struct EmbedGradArgs {
	const int *key, *index; // sorted
	const void *dy;         // [N, C]
	float *dtable;          // [V, C]
	float *part;            // [chunks, 2, C]: the runs that come in from the chunk before, and that go on into the next
	int n, C, V, accumulate;
};

constexpr int chunk = 32;

__device__ inline void write_row(float *p, const float *sum, int count, int left, bool add) {
	for (int j = 0; j < count; j++)
		if (j < left)
			p[j] = add ? p[j] + sum[j] : sum[j];
}

// A block sums the runs in 32 sorted rows; whole runs go to the table, cut ones to part. 1 pass over dy.
template <typename T> __device__ void embed_grad(const EmbedGradArgs &a) {
	constexpr int P = Pack<T>::N, batch = 8;
	__shared__ int key[chunk + 2], index[chunk];
	const int lo = blockIdx.x * chunk, count = min(chunk, a.n - lo), c = (blockIdx.y * blockDim.x + threadIdx.x) * P;
	if (threadIdx.x < chunk + 2) {
		int at = lo - 1 + threadIdx.x;
		key[threadIdx.x] = at >= 0 && at < a.n ? a.key[at] : -1;
		if (threadIdx.x < count)
			index[threadIdx.x] = a.index[lo + threadIdx.x];
	}
	__syncthreads();
	if (c >= a.C)
		return;
	const bool wide = a.C % P == 0 && aligned(a.dy);
	float *head = a.part + int64_t(blockIdx.x) * 2 * a.C + c, *tail = head + a.C;
	float sum[P] = {};
	bool whole = key[0] != key[1]; // the run began in this chunk
	for (int r = 0; r < count; r += batch) {
		Pack<T> dy[batch];
#pragma unroll
		for (int b = 0; b < batch; b++)
			if (r + b < count)
				dy[b] = load((const T *)a.dy + int64_t(index[r + b]) * a.C + c, wide, a.C - c);
#pragma unroll
		for (int b = 0; b < batch; b++) {
			if (r + b >= count)
				break;
#pragma unroll
			for (int j = 0; j < P; j++)
				sum[j] += dy[b][j];
			const int k = key[r + b + 1];
			const bool ends = k != key[r + b + 2];
			if (!ends && r + b + 1 < count)
				continue;
			if (!whole)
				write_row(head, sum, P, a.C - c, false);
			else if (!ends)
				write_row(tail, sum, P, a.C - c, false);
			else if (k < a.V)
				write_row(a.dtable + int64_t(k) * a.C + c, sum, P, a.C - c, a.accumulate);
			whole = true;
#pragma unroll
			for (int j = 0; j < P; j++)
				sum[j] = 0;
		}
	}
}
BOTH_TYPES(embed_grad, 128, EmbedGradArgs)

// A block takes the run that starts in its chunk and goes on, if there is one, and adds up its pieces in order.
extern "C" __global__ void __launch_bounds__(128) embed_grad_runs(const __grid_constant__ EmbedGradArgs a) {
	const int end = (blockIdx.x + 1) * chunk, c = blockIdx.y * blockDim.x + threadIdx.x;
	if (end >= a.n || c >= a.C)
		return;
	const int k = a.key[end - 1];
	const bool began = end == chunk || a.key[end - chunk - 1] != k; // in this chunk
	if (k != a.key[end] || !began || k >= a.V)
		return;
	float sum = a.part[(int64_t(blockIdx.x) * 2 + 1) * a.C + c];
	for (int64_t next = blockIdx.x + 1;; next++) {
		sum += a.part[next * 2 * a.C + c];
		int64_t stop = (next + 1) * chunk;
		if (stop >= a.n || a.key[stop] != k || a.key[stop - 1] != k)
			break;
	}
	float *out = a.dtable + int64_t(k) * a.C + c;
	*out = a.accumulate ? *out + sum : sum;
}
