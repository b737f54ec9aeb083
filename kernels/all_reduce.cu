// Sums over the GPUs of one host without a library: every GPU writes its part straight into the others' memory, waits
// until theirs have come into its own, and adds all of them in the order of the ranks, so that all get the same bits.
//
// What travels is words of 8 bytes, 4 of data and 4 of a turn's number. A word is written and read as a whole, so that
// data is there when its number is, and nothing has to be fenced. Each block has a place of its own in every inbox and
// counts its own turns, which are the same on all ranks, since they make the same calls in the same order. Turns take
// two places alternately: a rank writes into a place for the second time only when it has the others' words of the turn
// between, which they wrote when they had read the place.
#include "step.cuh"

constexpr int reduce_threads = 256, reduce_blocks = 128;
constexpr int reduce_rounds = 4; // packs of 16 bytes that a thread has at most in a turn

struct PeersArgs {
	ulonglong2 *inbox[8]; // of each rank: [2, ranks, blocks, rounds, 2, threads]
	unsigned *turn;                  // [blocks], of this rank
	int *failed;                     // memory of the host: 1 + the rank that was waited for in vain
	int64_t patience;            // ns
	int rank, ranks;
};
static_assert(sizeof(PeersArgs) == 96);

struct AllReduceArgs {
	PeersArgs peers;
	const void *x, *add; // [n]; add may be nullptr
	void *y;             // [n], x or add if wanted
	int64_t n;
};
static_assert(sizeof(AllReduceArgs) == 128);

// place is where a thread's words of a round lie in an inbox.
__device__ __forceinline__ int64_t place(const PeersArgs &p, unsigned turn, int from, int round) {
	const int64_t block = (int64_t(turn & 1) * p.ranks + from) * reduce_blocks + blockIdx.x;
	return (block * reduce_rounds + round) * 2 * reduce_threads + threadIdx.x;
}

// put writes 8 bytes of data as two words.
__device__ __forceinline__ void put(ulonglong2 *to, unsigned a, unsigned b, unsigned turn) {
	const unsigned long long high = (unsigned long long)turn << 32;
	asm volatile("st.relaxed.sys.global.v2.b64 [%0], {%1, %2};" ::"l"(to), "l"(high | a), "l"(high | b) : "memory");
}

__device__ __forceinline__ unsigned long long now() {
	unsigned long long t;
	asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
	return t;
}

// take waits for two words of a turn. It gives up after a time, or when another thread has.
__device__ __forceinline__ uint2 take(const PeersArgs &p, const ulonglong2 *at, unsigned turn, int from) {
	unsigned long long a, b, began = 0;
	for (int tries = 0;; tries++) {
		asm volatile("ld.relaxed.sys.global.v2.b64 {%0, %1}, [%2];" : "=l"(a), "=l"(b) : "l"(at) : "memory");
		if (unsigned(a >> 32) == turn && unsigned(b >> 32) == turn)
			break;
		if (tries % 4096 != 4095)
			continue;
		if (began == 0)
			began = now();
		if (*(volatile int *)p.failed)
			break;
		if (int64_t(now() - began) > p.patience) {
			*(volatile int *)p.failed = 1 + from;
			__threadfence_system();
			break;
		}
	}
	return {unsigned(a), unsigned(b)};
}

template <typename T> struct Sums { // of a Pack, in float32
	float v[Pack<T>::N];
	__device__ void zero() {
#pragma unroll
		for (int i = 0; i < Pack<T>::N; i++)
			v[i] = 0;
	}
	__device__ void add(const Pack<T> &x) {
#pragma unroll
		for (int i = 0; i < Pack<T>::N; i++)
			v[i] += x[i];
	}
	__device__ Pack<T> pack() const {
		Pack<T> x;
#pragma unroll
		for (int i = 0; i < Pack<T>::N; i++)
			x.set(i, v[i]);
		return x;
	}
};
template <> struct Sums<int> {
	int v[4];
	__device__ void zero() { v[0] = v[1] = v[2] = v[3] = 0; }
	__device__ void add(const Pack<int> &x) {
#pragma unroll
		for (int i = 0; i < 4; i++)
			v[i] += x.v[i];
	}
	__device__ Pack<int> pack() const {
		Pack<int> x;
#pragma unroll
		for (int i = 0; i < 4; i++)
			x.v[i] = v[i];
		return x;
	}
};

// read_through reads past L1, where lines may be older than what a kernel that has just ended wrote.
template <bool WIDE, typename T> __device__ __forceinline__ Pack<T> read_through(const T *p, int64_t left) {
	Pack<T> x;
	if constexpr (WIDE) {
		*reinterpret_cast<uint4 *>(&x) = __ldcg(reinterpret_cast<const uint4 *>(p));
	} else {
#pragma unroll
		for (int i = 0; i < Pack<T>::N; i++)
			x.v[i] = i < left ? __ldcg(p + i) : T(0);
	}
	return x;
}

template <typename T, bool WIDE> __device__ __forceinline__ void all_reduce(const AllReduceArgs &a) {
	constexpr int N = Pack<T>::N;
	const PeersArgs &p = a.peers;
	const int64_t step = int64_t(gridDim.x) * reduce_threads * N;
	const int64_t first = (int64_t(blockIdx.x) * reduce_threads + threadIdx.x) * N;
	const T *x = (const T *)a.x, *add = (const T *)a.add;
	step_begin(); // the next kernel asks for its weights while this one waits
	step_wait();
	const unsigned turn = *(volatile unsigned *)(p.turn + blockIdx.x) + 1;

	int round = 0;
	for (int64_t i = first; i < a.n; i += step, round++) {
		const Pack<T> own = read_through<WIDE>(x + i, a.n - i);
		const uint4 v = *(const uint4 *)&own;
		const int64_t at = place(p, turn, p.rank, round);
		for (int r = 1; r < p.ranks; r++) {
			ulonglong2 *to = p.inbox[(p.rank + r) % p.ranks] + at;
			put(to, v.x, v.y, turn);
			put(to + reduce_threads, v.z, v.w, turn);
		}
	}
	round = 0;
	for (int64_t i = first; i < a.n; i += step, round++) {
		Sums<T> sum;
		sum.zero();
		for (int r = 0; r < p.ranks; r++) {
			if (r == p.rank) {
				sum.add(read_through<WIDE>(x + i, a.n - i));
				continue;
			}
			const ulonglong2 *from = p.inbox[p.rank] + place(p, turn, r, round);
			const uint2 low = take(p, from, turn, r), high = take(p, from + reduce_threads, turn, r);
			const uint4 v = {low.x, low.y, high.x, high.y};
			sum.add(*(const Pack<T> *)&v);
		}
		if (add)
			sum.add(read_through<WIDE>(add + i, a.n - i));
		store<WIDE>((T *)a.y + i, sum.pack(), a.n - i);
	}
	__syncthreads();
	if (threadIdx.x == 0)
		p.turn[blockIdx.x] = turn;
}
FORMS(all_reduce, AllReduceArgs, 256)
FORM(all_reduce_i32, all_reduce, int, true, AllReduceArgs, 256)
FORM(all_reduce_any_i32, all_reduce, int, false, AllReduceArgs, 256)

struct AllLargestArgs {
	PeersArgs peers;
	const unsigned long long *best; // [rows, bests] step_keys; or nullptr
	const float *logits;            // [rows, n] at ld, if there is no best
	int *tokens;                    // [rows]
	int rows, bests, n, ld, first;  // the first of this rank's tokens
};
static_assert(sizeof(AllLargestArgs) == 144);

// The token of each row's largest logit where every rank has logits of some tokens, a block a row at a time.
extern "C" __global__ void __launch_bounds__(256) all_largest(const __grid_constant__ AllLargestArgs a) {
	const PeersArgs &p = a.peers;
	__shared__ unsigned long long warps[8];
	step_begin();
	step_wait();
	const unsigned turn = *(volatile unsigned *)(p.turn + blockIdx.x) + 1;
	int round = 0;
	for (int row = blockIdx.x; row < a.rows; row += gridDim.x, round++) {
		unsigned long long key = 0;
		if (a.best) {
			for (int i = threadIdx.x; i < a.bests; i += 256)
				key = max(key, __ldcg(a.best + int64_t(row) * a.bests + i));
		} else {
			for (int i = threadIdx.x; i < a.n; i += 256)
				key = max(key, step_key(__ldcg(a.logits + int64_t(row) * a.ld + i), i));
		}
#pragma unroll
		for (int o = 16; o > 0; o /= 2)
			key = max(key, __shfl_xor_sync(~0u, key, o));
		__syncthreads();
		if (threadIdx.x % 32 == 0)
			warps[threadIdx.x / 32] = key;
		__syncthreads();
		if (threadIdx.x > 0)
			continue;
#pragma unroll
		for (int w = 1; w < 8; w++)
			key = max(key, warps[w]);
		key -= unsigned(a.first); // the key's low half is ~token
		for (int r = 0; r < p.ranks; r++) // to itself too, for the second loop
			put(p.inbox[r] + place(p, turn, p.rank, round), unsigned(key), unsigned(key >> 32), turn);
	}
	if (threadIdx.x > 0)
		return;
	round = 0;
	for (int row = blockIdx.x; row < a.rows; row += gridDim.x, round++) {
		unsigned long long key = 0;
		for (int r = 0; r < p.ranks; r++) {
			const uint2 v = take(p, p.inbox[p.rank] + place(p, turn, r, round), turn, r);
			key = max(key, (unsigned long long)v.y << 32 | v.x);
		}
		a.tokens[row] = step_token(key);
	}
	p.turn[blockIdx.x] = turn;
}
