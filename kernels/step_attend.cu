// Attention of one new token of each request, from the projections to the output, in one launch: queries and the new
// key are rotated (and latents normed) on their way, the token goes to its page, and a cluster of blocks shares the
// tokens of one request and kv head. Made for small batches, where a step waits for latencies and not for bytes: the
// cache of the tokens before is asked for while the kernel before still runs, since no kernel of this step writes it.
//
// All loads are of 16 bytes and as many at once as there are: what a step waits for here is latency. And the code is
// kept short, since a step's kernels come to more instructions than a multiprocessor keeps.
//
// A warp takes units of 16 tokens in turn, each through a pipeline of its own: tokens on N of the scores and K of the
// sums, 16 query rows on M, which are most often not full. Warps then meet in shared memory, blocks in that of the
// cluster.
#include "mma.cuh"
#include "vector.cuh"
#include "cluster.cuh"

struct StepAttendArgs {
	const bf16 *q, *qRotate;    // queries but for their last `rotate` columns, and those
	const bf16 *k, *v, *kRope; // the new token: [B, G, W], [B, G, W] or nullptr, [B, R] or nullptr
	const bf16 *norm;         // [G, W] or nullptr: of k
	const float2 *table;      // [positions, rotate/2]: cos, sin
	bf16 *kCache, *vCache, *ropeCache; // [slots, G, W] twice, [slots, R]
	const int *pages, *lengths; // [B, maxPages], [B] with the new token; 0: nobody's row
	bf16 *out;                // [B, H, Dv]
	long qRow, qRotateRow, kRow, vRow, kRopeRow; // elements from one request to the next
	int qHead, qRotateHead;     // and from one head to the next
	int H, G, P, R, rotate;     // a key is P columns of k and R of kRope
	int maxPages, pageShift, rowTiles;
	float scale, eps;         // scale times log2(e)
};
static_assert(sizeof(StepAttendArgs) == 192);

constexpr int ATTEND_WARPS = 8;

// Bytes of shared memory: queries, then each warp's ring of tokens of so many columns, later what the warps have
// summed.
template <int KS, int NV, int STAGES> constexpr int attend_bytes(int width) {
	const int ring = ATTEND_WARPS * STAGES * 16 * (width * 2 + 16), partial = 4 * (ATTEND_WARPS * 16 * (NV * 16 + 2) + 32);
	return 16 * (KS * 16 * 2 + 16) + (ring > partial ? ring : partial);
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr int UNIT = 16; // tokens

__device__ __forceinline__ float remote(const float *place, int rank) {
	uint32_t there;
	float x;
	asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(place)), "r"(rank));
	asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(there) : "memory");
	return x;
}
__device__ __forceinline__ uint4 eight(const bf16 *x) { return __ldcg((const uint4 *)x); }

// rotated is columns c.. of the n last ones of a row, eight of them, rotated by angles.
__device__ __forceinline__ uint4 rotated(const bf16 *x, const float2 *angles, int c, int n) {
	const int half = n / 2, i = c < half ? c : c - half;
	const uint4 u = eight(x + i), v = eight(x + half + i);
	uint4 y;
#pragma unroll
	for (int e = 0; e < 4; e++) {
		const float4 cs = __ldg((const float4 *)(angles + i) + e);
		const uint32_t p = (&u.x)[e], q = (&v.x)[e];
		const float s0 = c < half ? -cs.y : cs.y, s1 = c < half ? -cs.w : cs.w;
		const uint32_t own = c < half ? p : q, other = c < half ? q : p;
		(&y.x)[e] = packBF16(lowBF16(own) * cs.x + lowBF16(other) * s0, highBF16(own) * cs.z + highBF16(other) * s1);
	}
	return y;
}

// KS steps of 16 columns of a key, NV of a value; STAGES units a warp has under way. PAIR: key and value are apart.
template <int KS, int NV, int STAGES, bool PAIR> __device__ void step_attend(const StepAttendArgs &a) {
	extern __shared__ __align__(128) char memory[];
	constexpr int E = KS * 16, W = NV * 16, queryPitch = E * 2 + 16;
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, blocks = gridDim.x, rank = blockIdx.x;
	const int g = blockIdx.y / a.rowTiles, tile = blockIdx.y % a.rowTiles, b = blockIdx.z, share = a.H / a.G, row0 = tile * 16;
	const int rows = min(16, share - row0), S = a.lengths[b], rest = PAIR ? W : KS > NV ? E - W : a.R;
	const int width = W + rest, pitch = width * 2 + 16; // of a token in shared memory: [k | v] or [k | kRope]
	char *ring = memory + 16 * queryPitch + warp * STAGES * UNIT * pitch;
	const uint32_t queries = shared_address(memory), ringAt = shared_address(ring);
	const int units = (S + UNIT - 1) / UNIT, warps = blocks * ATTEND_WARPS, first = warp * blocks + rank;
	const int *pages = a.pages + (long)b * a.maxPages;

	auto slotOf = [&](int s) { return (long)pages[s >> a.pageShift] << a.pageShift | (s & ((1 << a.pageShift) - 1)); };
	// fetch starts the copies of a unit's old tokens; the new one and those past the end become zeros.
	auto fetch = [&](int n) {
		const int u = first + n * warps;
		if (u < units) {
			const uint32_t to = ringAt + n % STAGES * UNIT * pitch;
			const int chunks = width / 8, s0 = u * UNIT;
			const long base = slotOf(s0); // a unit lies in one page
#pragma unroll 2
			for (int i = lane; i < UNIT * chunks; i += 32) {
				const int t = i / chunks, c = i % chunks * 8;
				const bool old = s0 + t < S - 1;
				const long slot = base + t;
				const bf16 *from = c < W ? a.kCache + (slot * a.G + g) * W + c
					: PAIR ? a.vCache + (slot * a.G + g) * W + c - W : a.ropeCache + slot * rest + c - W;
				copyAsync16(to + t * pitch + c * 2, from, old);
			}
		}
		asm volatile("cp.async.commit_group;" ::: "memory");
	};
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#pragma unroll 1
	for (int n = 0; n < STAGES - 1; n++) fetch(n);
	asm volatile("griddepcontrol.wait;" ::: "memory");
	if (S == 0) return; // the whole cluster

	const float2 *angles = a.table + (long)(S - 1) * (a.rotate / 2);
#pragma unroll
	for (int i = threadIdx.x; i < 2 * E; i += ATTEND_WARPS * 32) {
		const int r = i / (E / 8), c = i % (E / 8) * 8, h = g * share + row0 + r, still = E - a.rotate;
		uint4 x = {};
		if (r < rows) x = c < still ? eight(a.q + b * a.qRow + (long)h * a.qHead + c) : rotated(a.qRotate + b * a.qRotateRow + (long)h * a.qRotateHead, angles, c - still, a.rotate);
		*(uint4 *)(memory + r * queryPitch + c * 2) = x;
	}
	__syncthreads();
	uint32_t q[KS][4];
#pragma unroll
	for (int k = 0; k < KS; k++)
		ldmatrix4(q[k], queries + (lane % 16) * queryPitch + k * 32 + lane / 16 * 16);

	float o[NV * 2][4] = {}, most[2] = {-INFINITY, -INFINITY}, sum[2] = {};
	for (int n = 0; first + n * warps < units; n++) {
		fetch(n + STAGES - 1);
		asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1) : "memory");
		const int u = first + n * warps;
		char *unit = ring + n % STAGES * UNIT * pitch;
		if (u == units - 1) { // the new token: into shared memory, and to its page; a lane has 8 columns of k, and 8 of the rest
			const int c = lane * 8, still = PAIR ? W - a.rotate : W;
			const long slot = slotOf(S - 1);
			const bf16 *k = a.k + b * a.kRow + (long)g * W;
			uint4 x = {}, y = {};
			if (c < W) x = c < still ? eight(k + c) : rotated(k + still, angles, c - still, a.rotate);
			if (c < rest) y = PAIR ? eight(a.v + b * a.vRow + (long)g * W + c) : rotated(a.kRope + b * a.kRopeRow, angles, c, rest);
			if (!PAIR && a.norm) {
				float squares = 0;
#pragma unroll
				for (int e = 0; e < 4; e++) squares += lowBF16((&x.x)[e]) * lowBF16((&x.x)[e]) + highBF16((&x.x)[e]) * highBF16((&x.x)[e]);
				const float rstd = rsqrtf(warp_sum(squares) / W + a.eps);
				const uint4 w = c < W ? __ldg((const uint4 *)(a.norm + g * W + c)) : uint4{};
#pragma unroll
				for (int e = 0; e < 4; e++)
					(&x.x)[e] = packBF16(lowBF16((&x.x)[e]) * rstd * lowBF16((&w.x)[e]), highBF16((&x.x)[e]) * rstd * highBF16((&w.x)[e]));
			}
			__syncwarp();
			char *to = unit + (S - 1) % UNIT * pitch;
			if (c < W) {
				*(uint4 *)(to + c * 2) = x;
				if (tile == 0) *(uint4 *)(a.kCache + (slot * a.G + g) * W + c) = x;
			}
			if (c < rest) {
				*(uint4 *)(to + (W + c) * 2) = y;
				if (tile == 0 && (PAIR || g == 0)) *(uint4 *)(PAIR ? a.vCache + (slot * a.G + g) * W + c : a.ropeCache + slot * rest + c) = y;
			}
		}
		__syncwarp();
		const uint32_t at = shared_address(unit);
		float s[2][4] = {};
#pragma unroll
		for (int k = 0; k < KS; k++) {
			const int column = k * 16 < a.P ? k * 16 : W + k * 16 - a.P;
			uint32_t x[4]; // tokens 0-7, columns 0-7 and 8-15; tokens 8-15
			ldmatrix4(x, at + (lane % 8 + lane / 16 * 8) * pitch + (column + lane / 8 % 2 * 8) * 2);
			mma16816(s[0], q[k], x[0], x[1]);
			mma16816(s[1], q[k], x[2], x[3]);
		}
		float top[2] = {most[0], most[1]};
#pragma unroll
		for (int j = 0; j < 2; j++)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				const int token = u * UNIT + j * 8 + lane % 4 * 2 + i % 2;
				s[j][i] = token < S ? s[j][i] * a.scale : -INFINITY;
				top[i / 2] = fmaxf(top[i / 2], s[j][i]);
			}
#pragma unroll
		for (int i = 0; i < 2; i++) {
			top[i] = fmaxf(top[i], __shfl_xor_sync(~0u, top[i], 1));
			top[i] = fmaxf(top[i], __shfl_xor_sync(~0u, top[i], 2));
			const float shrink = fastExp2(most[i] - top[i]);
			sum[i] *= shrink;
			most[i] = top[i];
#pragma unroll
			for (int j = 0; j < NV * 2; j++) o[j][2 * i] *= shrink, o[j][2 * i + 1] *= shrink;
		}
#pragma unroll
		for (int j = 0; j < 2; j++)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				s[j][i] = fastExp2(s[j][i] - most[i / 2]);
				sum[i / 2] += s[j][i];
			}
		const uint32_t p[4] = {packBF16(s[0][0], s[0][1]), packBF16(s[0][2], s[0][3]), packBF16(s[1][0], s[1][1]), packBF16(s[1][2], s[1][3])};
#pragma unroll
		for (int j = 0; j < NV; j++) {
			uint32_t x[4]; // tokens 0-7 and 8-15 of columns 0-7; of columns 8-15
			ldmatrix4Trans(x, at + (lane % 16) * pitch + ((PAIR ? W : 0) + j * 16 + lane / 16 * 8) * 2);
			mma16816(o[2 * j], p, x[0], x[1]);
			mma16816(o[2 * j + 1], p, x[2], x[3]);
		}
		__syncwarp();
	}
#pragma unroll
	for (int i = 0; i < 2; i++) {
		sum[i] += __shfl_xor_sync(~0u, sum[i], 1);
		sum[i] += __shfl_xor_sync(~0u, sum[i], 2);
	}
	asm volatile("cp.async.wait_all;" ::: "memory");
	__syncthreads(); // the rings are free

	// partial [16, W] of each warp, with most and sum; then of the block, in the first warp's place
	float *parts = (float *)(memory + 16 * queryPitch), *mosts = parts + ATTEND_WARPS * 16 * W, *sums = mosts + ATTEND_WARPS * 16, *block = sums + ATTEND_WARPS * 16;
	float *mine = parts + warp * 16 * W;
#pragma unroll
	for (int j = 0; j < NV * 2; j++)
#pragma unroll
		for (int i = 0; i < 2; i++)
			*(float2 *)(mine + (lane / 4 + 8 * i) * W + j * 8 + lane % 4 * 2) = float2{o[j][2 * i], o[j][2 * i + 1]};
	if (lane % 4 == 0)
		for (int i = 0; i < 2; i++) mosts[warp * 16 + lane / 4 + 8 * i] = most[i], sums[warp * 16 + lane / 4 + 8 * i] = sum[i];
	__syncthreads();
	if (threadIdx.x < 16) {
		float m = -INFINITY, all = 0;
		for (int w = 0; w < ATTEND_WARPS; w++) m = fmaxf(m, mosts[w * 16 + threadIdx.x]);
		for (int w = 0; w < ATTEND_WARPS; w++) {
			const float weight = mosts[w * 16 + threadIdx.x] == -INFINITY ? 0.f : fastExp2(mosts[w * 16 + threadIdx.x] - m);
			all += sums[w * 16 + threadIdx.x] * weight;
			sums[w * 16 + threadIdx.x] = weight;
		}
		block[threadIdx.x] = m, block[16 + threadIdx.x] = all;
	}
	__syncthreads();
	for (int i = threadIdx.x; i < rows * W; i += blockDim.x) {
		float x = 0;
		for (int w = 0; w < ATTEND_WARPS; w++) x += parts[w * 16 * W + i] * sums[w * 16 + i / W];
		parts[i] = x;
	}
	cluster_sync();
	const int n = rows * W, lo = n * rank / blocks, hi = n * (rank + 1) / blocks;
	for (int i = lo + threadIdx.x; i < hi; i += blockDim.x) {
		const int r = i / W;
		float ms[8], ss[8], xs[8], m = -INFINITY, all = 0, x = 0;
#pragma unroll
		for (int w = 0; w < 8; w++) { // past the cluster's end: its last block again
			const int from = min(w, blocks - 1);
			ms[w] = remote(block + r, from), ss[w] = remote(block + 16 + r, from), xs[w] = remote(parts + i, from);
			m = fmaxf(m, ms[w]);
		}
#pragma unroll
		for (int w = 0; w < 8; w++) {
			const float weight = w < blocks ? fastExp2(ms[w] - m) : 0.f;
			all += ss[w] * weight, x += xs[w] * weight;
		}
		a.out[((long)b * a.H + g * share + row0 + r) * W + i % W] = bf16(__fdividef(x, all));
	}
	cluster_sync(); // nobody leaves while its memory is read
}
#else
template <int KS, int NV, int STAGES, bool PAIR> __device__ void step_attend(const StepAttendArgs &) {}
#endif

// Steps of 16 columns of key and value, units under way, whether key and value are apart, columns of a token in the
// cache (of a tied key with 32 of rope), bytes of shared memory: as in step_shape.go.
#define ATTEND(name, KS, NV, STAGES, PAIR, WIDTH, BYTES) \
	static_assert(attend_bytes<KS, NV, STAGES>(WIDTH) == BYTES); \
	extern "C" __global__ void __launch_bounds__(ATTEND_WARPS * 32, 1) name(const __grid_constant__ StepAttendArgs a) { step_attend<KS, NV, STAGES, PAIR>(a); }
ATTEND(step_attend_kv_64, 4, 4, 3, true, 128, 106752)
ATTEND(step_attend_kv_96, 6, 6, 4, true, 192, 208128)
ATTEND(step_attend_kv_128, 8, 8, 3, true, 256, 207104)
ATTEND(step_attend_tied_64, 4, 4, 4, false, 96, 108800)
ATTEND(step_attend_tied_96, 6, 6, 4, false, 128, 142592)
ATTEND(step_attend_tied_128, 8, 8, 4, false, 160, 176384)
ATTEND(step_attend_latent_128_32, 10, 8, 2, false, 160, 91392)
ATTEND(step_attend_latent_192_32, 14, 12, 3, false, 224, 185600)
ATTEND(step_attend_latent_256_32, 18, 16, 2, false, 288, 161024)
ATTEND(step_attend_latent_256_64, 20, 16, 2, false, 320, 178432)
