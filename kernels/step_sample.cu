// The end of a decode step, fused: from logits, or from each block's best of them, to a token and its embedding.
#include "step.cuh"

struct StepPickArgs {
	const unsigned long long *best; // [rows, blocks] of step_logits
	const bf16 *table;              // [V, C]
	int *tokens;                    // [rows]
	bf16 *x;                        // [rows, C], or nullptr
	int blocks, C;
};
static_assert(sizeof(StepPickArgs) == 40);

// A block takes a row.
extern "C" __global__ void __launch_bounds__(256) step_pick(const __grid_constant__ StepPickArgs a) {
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

// One row's choice, 32 bytes.
struct StepSampling {
	float temperature, topP, minP, repetition;
	int topK, unused;
	double u; // from [0, 1)
};
static_assert(sizeof(StepSampling) == 32);

struct StepSampleArgs {
	const float *logits;         // [rows, V]
	const StepSampling *choices; // [rows]
	unsigned *seen;              // [rows, ceil(V/32)] bits, or nullptr
	const bf16 *table;           // [V, C]
	int *tokens;                 // [rows]
	bf16 *x;                     // [rows, C], or nullptr
	int V, C, share;             // share: of each block of a row, at most
};
static_assert(sizeof(StepSampleArgs) == 64);

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "cluster.cuh"

// A row's logits lie in the shared memory of a cluster, as distances from the largest: steps of reach · temperature /
// 2^31, so that the order, weights and ties are those of whole numbers. Weights are whole too, in units of 2^-40 of the
// largest: sums of them are exact, and the result depends on no order of threads. Beyond reach a weight is nothing.
constexpr int sample_blocks = 8, sample_threads = 512, sample_bins = 2048, sample_each = sample_bins / sample_threads;
constexpr float sample_reach = 28.f;
constexpr unsigned sample_out = 1u << 31;
typedef unsigned long long u64;

__device__ __forceinline__ u64 weight(unsigned q) {
	return q >= sample_out ? 0 : __float2ull_rn(exp2f(40.f - float(q) * (sample_reach * 1.44269504f / 2147483648.f)));
}

template <typename T> __device__ __forceinline__ T *in_block(T *p, int rank) {
	u64 there;
	asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(u64(p)), "r"(rank));
	return (T *)there;
}

// before is the sum of x over the threads below this one; all is the sum over the block.
template <typename T> __device__ T before(T x, T *part, T &all) {
	const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	T sum = x;
#pragma unroll
	for (int o = 1; o < 32; o *= 2) {
		T y = __shfl_up_sync(~0u, sum, o);
		if (lane >= o)
			sum += y;
	}
	__syncthreads();
	if (lane == 31)
		part[warp] = sum;
	__syncthreads();
	T below = 0;
	all = 0;
#pragma unroll
	for (int w = 0; w < sample_threads / 32; w++) {
		if (w < warp)
			below += part[w];
		all += part[w];
	}
	return below + sum - x;
}

struct Sampler {
	unsigned count[sample_bins];
	u64 mass[sample_bins];
	u64 part[sample_threads / 32];
	u64 share;                       // what this block adds to a sum over the cluster
	unsigned found_bin, found_count; // the bin in which a search ends, and how many are before it
	u64 found_mass, whole;
	int token;
};

// over is the sum over the blocks before this one, and over all.
__device__ u64 over_blocks(Sampler &s, u64 mine, int rank, u64 &all) {
	cluster_sync();
	if (threadIdx.x == 0)
		s.share = mine;
	cluster_sync();
	u64 below = 0;
	all = 0;
	for (int r = 0; r < sample_blocks; r++) {
		const u64 x = *in_block(&s.share, r);
		below += r < rank ? x : 0;
		all += x;
	}
	return below;
}

// A Cut ends the order of weights: those nearer than q stay, and the first `equals` of those at q.
struct Cut {
	unsigned q, equals;
	u64 mass; // of what stays
};

// search finds the end of the fewest whose number (or whose mass) reaches the goal. Everything stays when nothing does.
__device__ Cut search(Sampler &s, const unsigned *q, int n, bool by_mass, u64 goal) {
	unsigned prefix = 0, count = 0;
	u64 mass = 0;
#pragma unroll 1
	for (int level = 0; level < 3; level++) {
		const int shift = 20 - 10 * level, bits = level == 0 ? 11 : 10;
		cluster_sync(); // no one reads the bins of the level before
		for (int i = threadIdx.x; i < sample_bins; i += sample_threads)
			s.count[i] = 0, s.mass[i] = 0;
		__syncthreads();
		for (int i = threadIdx.x; i < n; i += sample_threads) {
			const unsigned v = q[i];
			if (v < sample_out && (level == 0 || v >> (shift + bits) == prefix)) {
				const unsigned bin = v >> shift & ((1u << bits) - 1);
				atomicAdd(&s.count[bin], 1u);
				atomicAdd(&s.mass[bin], weight(v));
			}
		}
		cluster_sync();
		unsigned c[sample_each] = {}, own = 0, all_count;
		u64 m[sample_each] = {}, own_mass = 0, all_mass;
#pragma unroll
		for (int r = 0; r < sample_blocks; r++)
#pragma unroll
			for (int j = 0; j < sample_each; j++) {
				c[j] += in_block(s.count, r)[threadIdx.x * sample_each + j];
				m[j] += in_block(s.mass, r)[threadIdx.x * sample_each + j];
			}
#pragma unroll
		for (int j = 0; j < sample_each; j++)
			own += c[j], own_mass += m[j];
		unsigned at = count + before(own, (unsigned *)s.part, all_count);
		u64 at_mass = mass + before(own_mass, s.part, all_mass);
		if (threadIdx.x == 0) {
			s.found_bin = ~0u;
			s.whole = all_mass;
		}
		__syncthreads();
#pragma unroll
		for (int j = 0; j < sample_each; j++) {
			const bool reached = by_mass ? at_mass < goal && at_mass + m[j] >= goal : at < goal && at + c[j] >= goal;
			if (reached && c[j] > 0)
				s.found_bin = threadIdx.x * sample_each + j, s.found_count = at, s.found_mass = at_mass;
			at += c[j], at_mass += m[j];
		}
		__syncthreads();
		if (s.found_bin == ~0u)
			return {sample_out, 0, s.whole};
		prefix = prefix << bits | s.found_bin;
		count = s.found_count, mass = s.found_mass;
	}
	const u64 w = weight(prefix);
	const unsigned equals = by_mass ? unsigned(w ? (goal - mass + w - 1) / w : 0) : unsigned(goal - count);
	return {prefix, equals, mass + equals * w};
}

// A cluster takes a row.
static_assert(sizeof(Sampler) <= 25600); // as in step_sample.go
extern "C" __global__ void __cluster_dims__(8, 1, 1) __launch_bounds__(512) step_sample(const __grid_constant__ StepSampleArgs a) {
	__shared__ Sampler s;
	extern __shared__ unsigned q[]; // [share]
	const int row = blockIdx.x / sample_blocks, rank = blockIdx.x % sample_blocks, words = (a.V + 31) / 32;
	const int lo = rank * a.share, n = max(0, min(a.share, a.V - lo));
	const StepSampling p = a.choices[row];
	step_begin();
	step_wait();

	// the logits after the penalty, and the largest
	u64 best = 0;
	for (int i = threadIdx.x; i < n; i += sample_threads) {
		float l = __ldcg(a.logits + int64_t(row) * a.V + lo + i);
		if (a.seen && p.repetition != 0 && p.repetition != 1 && __ldcg(a.seen + int64_t(row) * words + (lo + i) / 32) >> (lo + i) % 32 & 1)
			l = l > 0 ? l / p.repetition : l * p.repetition;
		q[i] = __float_as_uint(l);
		best = max(best, step_key(l, lo + i));
	}
#pragma unroll
	for (int o = 16; o > 0; o /= 2)
		best = max(best, __shfl_xor_sync(~0u, best, o));
	if (threadIdx.x % 32 == 0)
		s.part[threadIdx.x / 32] = best;
	__syncthreads();
	if (threadIdx.x == 0) {
		for (int w = 0; w < sample_threads / 32; w++)
			best = max(best, s.part[w]);
		s.share = best;
	}
	cluster_sync();
#pragma unroll
	for (int r = 0; r < sample_blocks; r++)
		best = max(best, *in_block(&s.share, r));
	int token = step_token(best);
	if (threadIdx.x == 0)
		s.token = token; // stays where no weight is a number
	if (p.temperature > 0) {
		const unsigned high = unsigned(best >> 32);
		const float top = __uint_as_float(high & 0x80000000u ? high & 0x7fffffffu : ~high), scale = 2147483648.f / (sample_reach * p.temperature);
		for (int i = threadIdx.x; i < n; i += sample_threads) {
			const float d = (top - __uint_as_float(q[i])) * scale;
			q[i] = d < 2147483648.f ? unsigned(d) : sample_out; // NaN and -Inf are out
		}
		__syncthreads();
		Cut cut = {sample_out, 0, 0};
		const bool topk = p.topK > 0 && p.topK < a.V, topp = p.topP > 0 && p.topP < 1;
		if (topk)
			cut = search(s, q, n, false, p.topK);
		if (topp) {
			if (!topk)
				cut = search(s, q, n, true, ~0ull);
			cut = search(s, q, n, true, max(u64(1), u64(ceil(double(p.topP) * double(cut.mass)))));
		}
		// in the order of tokens: a thread takes a range, of odd length so that threads meet different banks
		const int each = ((n + sample_threads - 1) / sample_threads) | 1, from = min(n, int(threadIdx.x) * each), to = min(n, from + each);
		unsigned equal = 0;
		if (cut.q < sample_out) {
			for (int i = from; i < to; i++)
				equal += q[i] == cut.q;
			u64 all, everywhere;
			const u64 ahead = before(u64(equal), s.part, all);
			equal = unsigned(min(over_blocks(s, all, rank, everywhere) + ahead, u64(~0u)));
		}
		const u64 least = u64(double(p.minP) * 1099511627776.0);
		auto kept = [&](int i, unsigned &rank_of_equal) {
			const unsigned v = q[i];
			const u64 w = weight(v);
			if (v > cut.q || w < least || v == cut.q && rank_of_equal++ >= cut.equals)
				return u64(0);
			return w;
		};
		u64 mine = 0, block, whole;
		unsigned k = equal;
		for (int i = from; i < to; i++)
			mine += kept(i, k);
		u64 at = before(mine, s.part, block);
		at += over_blocks(s, block, rank, whole);
		const u64 goal = min(u64(p.u * double(whole)), whole - 1);
		if (at <= goal && goal < at + mine) {
			k = equal;
			for (int i = from; i < to; i++) {
				at += kept(i, k);
				if (at > goal) {
					for (int r = 0; r < sample_blocks; r++)
						*in_block(&s.token, r) = lo + i;
					break;
				}
			}
		}
		cluster_sync();
		token = s.token;
	}
	if (rank == 0 && threadIdx.x == 0) {
		a.tokens[row] = token;
		if (a.seen)
			atomicOr(a.seen + int64_t(row) * words + token / 32, 1u << token % 32);
	}
	if (rank == 0 && a.x)
		for (int c = threadIdx.x * 8; c < a.C; c += sample_threads * 8)
			*(uint4 *)(a.x + int64_t(row) * a.C + c) = __ldg((const uint4 *)(a.table + int64_t(token) * a.C + c));
	cluster_sync(); // no block leaves while another may still read its memory
}
#endif
