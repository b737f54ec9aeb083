// Embedding: rows of a table by token, and its gradient without atomics: tokens are sorted (stably, so that equal
// tokens keep their order), then runs of equal tokens are summed in that order.
#include "vector.cuh"

struct EmbedArgs {
	const int *tokens;
	const void *table; // [V, C]
	void *y;           // [N, C]
	int C, V;
};
static_assert(sizeof(EmbedArgs) == 32);

// One block a row. A token outside the table reads as zeros.
template <typename T, bool WIDE> __device__ void embed(const EmbedArgs &a) {
	constexpr int P = Pack<T>::N;
	const int token = a.tokens[blockIdx.x];
	const bool there = unsigned(token) < unsigned(a.V);
	for (int c = threadIdx.x * P; c < a.C; c += blockDim.x * P) {
		Pack<T> x = load<WIDE>((const T *)a.table + int64_t(there ? token : 0) * a.C + c, a.C - c);
		if (!there)
#pragma unroll
			for (int j = 0; j < P; j++)
				x.set(j, 0);
		store<WIDE>((T *)a.y + int64_t(blockIdx.x) * a.C + c, x, a.C - c);
	}
}
FORMS(embed, EmbedArgs, 1024)

struct EmbedSortArgs {
	const int *key, *index; // of the pass before; the first pass has the tokens, and no index
	int *key_out, *index_out;
	int *count; // [64, blocks]
	int n, V, shift, first;
};
static_assert(sizeof(EmbedSortArgs) == 56);

// One pass of a stable radix sort, by 6 bits, in two kernels of a block for each 1024 tokens: embed_count counts the
// digits of each block, embed_place finds from all counts where they go. A token outside the table becomes V, the last.
constexpr int digits = 64, sort_warps = 32;

// digit_of reads the thread's token, and sorts the warp's: how many before this one have its digit, how many in all.
struct Digit {
	int key, digit, before, same;
	__device__ Digit(const EmbedSortArgs &a, int at) {
		key = at < a.n ? a.key[at] : a.V;
		if (a.first && unsigned(key) >= unsigned(a.V))
			key = a.V;
		digit = at < a.n ? (key >> a.shift) % digits : digits;
		unsigned mask = __match_any_sync(~0u, digit);
		before = __popc(mask & ((1u << threadIdx.x % 32) - 1));
		same = __popc(mask);
	}
};

extern "C" __global__ void __launch_bounds__(1024) embed_count(const __grid_constant__ EmbedSortArgs a) {
	__shared__ int count[digits];
	if (threadIdx.x < digits)
		count[threadIdx.x] = 0;
	__syncthreads();
	Digit d(a, blockIdx.x * 1024 + threadIdx.x);
	if (d.before == 0 && d.digit < digits)
		atomicAdd(&count[d.digit], d.same); // whole numbers: any order gives the same
	__syncthreads();
	if (threadIdx.x < digits)
		a.count[threadIdx.x * gridDim.x + blockIdx.x] = count[threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(1024) embed_place(const __grid_constant__ EmbedSortArgs a) {
	__shared__ int place[digits][sort_warps + 1], total[digits], ahead[digits];
	const int warp = threadIdx.x / 32, at = blockIdx.x * 1024 + threadIdx.x;
	for (int i = threadIdx.x; i < digits * (sort_warps + 1); i += 1024)
		place[i / (sort_warps + 1)][i % (sort_warps + 1)] = 0;
	// 16 threads a digit: how many in all, how many in the blocks before this one
	const int mine = threadIdx.x / 16;
	int all = 0, before = 0;
	for (int b = threadIdx.x % 16; b < gridDim.x; b += 16) {
		int c = a.count[mine * gridDim.x + b];
		all += c;
		before += b < blockIdx.x ? c : 0;
	}
#pragma unroll
	for (int o = 8; o > 0; o /= 2) {
		all += __shfl_xor_sync(~0u, all, o);
		before += __shfl_xor_sync(~0u, before, o);
	}
	if (threadIdx.x % 16 == 0) {
		total[mine] = all;
		ahead[mine] = before;
	}
	__syncthreads();
	Digit d(a, at);
	if (d.before == 0 && d.digit < digits)
		place[d.digit][warp] = d.same;
	__syncthreads();
	if (threadIdx.x < digits) {
		int to = ahead[threadIdx.x];
		for (int i = 0; i < threadIdx.x; i++)
			to += total[i];
		for (int w = 0; w < sort_warps; w++) {
			int c = place[threadIdx.x][w];
			place[threadIdx.x][w] = to;
			to += c;
		}
	}
	__syncthreads();
	if (at < a.n) {
		int to = place[d.digit][warp] + d.before;
		a.key_out[to] = d.key;
		a.index_out[to] = a.first ? at : a.index[at];
	}
}

struct EmbedGradArgs {
	const int *key, *index; // sorted
	const void *dy;         // [N, C]
	float *dtable;          // [V, C], added to
	float *part;            // [chunks, 2, C]: the runs that come in from the chunk before, and that go on into the next
	int n, C, V;
};
static_assert(sizeof(EmbedGradArgs) == 56);

constexpr int chunk = 32;

__device__ inline void write_row(float *p, const float *sum, int count, int left) {
	for (int j = 0; j < count; j++)
		if (j < left)
			p[j] = sum[j];
}

// add_row adds to the table without waiting for what it holds. No other thread adds to these elements in this launch,
// so the result does not depend on order.
__device__ inline void add_row(float *p, const float *sum, int count, int left) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	if (left >= count && aligned(p)) {
		for (int j = 0; j < count; j += 4)
			asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(p + j), "f"(sum[j]), "f"(sum[j + 1]), "f"(sum[j + 2]), "f"(sum[j + 3]) : "memory");
		return;
	}
#endif
	for (int j = 0; j < count; j++)
		if (j < left)
			atomicAdd(p + j, sum[j]);
}

// A block sums the runs in 32 sorted rows; whole runs go to the table, cut ones to part. 1 pass over dy.
template <typename T, bool WIDE> __device__ void embed_grad(const EmbedGradArgs &a) {
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
	float *head = a.part + int64_t(blockIdx.x) * 2 * a.C + c, *tail = head + a.C;
	float sum[P] = {};
	bool whole = key[0] != key[1]; // the run began in this chunk
	for (int r = 0; r < count; r += batch) {
		Pack<T> dy[batch];
#pragma unroll
		for (int b = 0; b < batch; b++)
			if (r + b < count)
				dy[b] = load<WIDE>((const T *)a.dy + int64_t(index[r + b]) * a.C + c, a.C - c);
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
				write_row(head, sum, P, a.C - c);
			else if (!ends)
				write_row(tail, sum, P, a.C - c);
			else if (k < a.V)
				add_row(a.dtable + int64_t(k) * a.C + c, sum, P, a.C - c);
			whole = true;
#pragma unroll
			for (int j = 0; j < P; j++)
				sum[j] = 0;
		}
	}
}
FORMS(embed_grad, EmbedGradArgs, 128)

// A block takes the run that starts in its chunk and goes on, if there is one, and adds up its pieces in order.
extern "C" __global__ void __launch_bounds__(128) embed_grad_runs(const __grid_constant__ EmbedGradArgs a) {
	const int end = (blockIdx.x + 1) * chunk, c = blockIdx.y * blockDim.x + threadIdx.x;
	if (end >= a.n || c >= a.C)
		return;
	const int k = a.key[end - 1];
	const bool began = end == chunk || a.key[end - chunk - 1] != k; // in this chunk
	if (k != a.key[end] || !began || k >= a.V)
		return;
	int lo = end, hi = a.n; // the run's end is the first other key
	while (lo < hi) {
		int mid = lo + (hi - lo) / 2;
		if (a.key[mid] == k)
			lo = mid + 1;
		else
			hi = mid;
	}
	const int last = (lo - 1) / chunk;
	float sum = a.part[(int64_t(blockIdx.x) * 2 + 1) * a.C + c];
#pragma unroll 8
	for (int next = blockIdx.x + 1; next <= last; next++)
		sum += a.part[int64_t(next) * 2 * a.C + c];
	a.dtable[int64_t(k) * a.C + c] += sum;
}
