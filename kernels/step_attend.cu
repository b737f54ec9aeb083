// Attention of one new token of each request, from the projections to the output, in one launch: queries and the new key
// are rotated (and latents normed) on their way, the token goes to its page, and a cluster of blocks shares the tokens of
// one request and kv head. Made for small batches, where a step waits for latencies and not for bytes: the cache of the
// tokens before is asked for while the kernel before still runs, since no kernel of this step writes it.
//
// A warp takes units of 16 tokens in turn, each through a pipeline of its own: tokens on N of the scores and K of the sums,
// 16 query rows on M, which are most often not full. Warps then meet in shared memory, blocks in that of the cluster.
#include "mma.cuh"
#include "vector.cuh"
#include "cluster.cuh"

struct StepAttend {
	const bf16 *q, *qTurn;    // queries but for their last `turn` columns, and those
	const bf16 *k, *v, *kRope; // the new token: [B, G, W], [B, G, W] or nullptr, [B, R] or nullptr
	const bf16 *norm;         // [G, W] or nullptr: of k
	const float2 *table;      // [positions, turn/2]: cos, sin
	bf16 *kCache, *vCache, *ropeCache; // [slots, G, W] twice, [slots, R]
	const int *pages, *lengths; // [B, maxPages], [B] with the new token; 0: nobody's row
	bf16 *out;                // [B, H, Dv]
	long qRow, qTurnRow, kRow, vRow, kRopeRow; // elements from one request to the next
	int qHead, qTurnHead;     // and from one head to the next
	int H, G, P, R, turn, W;  // a key is P columns of k and R of kRope; W columns lie in a slot of k
	int maxPages, pageShift, rowTiles;
	float scale, eps;         // scale times log2(e)
};

constexpr int ATTEND_WARPS = 8;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr int UNIT = 16; // tokens

__device__ __forceinline__ void copyOrZero(uint32_t to, const void *from, bool there) {
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
__device__ __forceinline__ void matrices(uint32_t (&x)[4], uint32_t at) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(at));
}
__device__ __forceinline__ void matricesTurned(uint32_t (&x)[4], uint32_t at) {
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(at));
}
__device__ __forceinline__ void product(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		: "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ float remote(const float *place, int rank) {
	uint32_t there;
	float x;
	asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(place)), "r"(rank));
	asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(there) : "memory");
	return x;
}
__device__ __forceinline__ uint32_t pairOf(float x, float y) {
	__nv_bfloat162 p = __floats2bfloat162_rn(x, y);
	return *(uint32_t *)&p;
}

// turned is column c of the n last ones of a row, rotated by angles.
__device__ __forceinline__ float turned(const bf16 *x, const float2 *angle, int c, int n) {
	const int half = n / 2, i = c % half;
	const float u = float(__ldcg(x + i)), v = float(__ldcg(x + half + i));
	const float2 cs = angle[i];
	return c < half ? u * cs.x - v * cs.y : v * cs.x + u * cs.y;
}

// KS steps of 16 columns of a key, NV of a value; STAGES units a warp has under way. PAIR: key and value are apart.
template <int KS, int NV, int STAGES, bool PAIR> __device__ void step_attend(const StepAttend &a) {
	extern __shared__ __align__(128) char memory[];
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, blocks = gridDim.x, rank = blockIdx.x;
	const int g = blockIdx.y / a.rowTiles, tile = blockIdx.y % a.rowTiles, b = blockIdx.z, share = a.H / a.G, row0 = tile * 16;
	const int rows = min(16, share - row0), E = a.P + a.R, Dv = NV * 16, S = a.lengths[b];
	const int width = PAIR ? 2 * a.W : a.W + a.R, pitch = width * 2 + 16; // of a token in shared memory: [k | v] or [k | kRope]
	bf16 *queries = (bf16 *)memory;
	const int queryPitch = KS * 32 + 16;
	char *ring = memory + 16 * queryPitch + warp * STAGES * UNIT * pitch;
	const uint32_t ringAt = shared_address(ring);
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
			for (int i = lane; i < UNIT * chunks; i += 32) {
				const int t = i / chunks, c = i % chunks * 8;
				const bool old = s0 + t < S - 1;
				const long slot = base + (old ? t : 0);
				const bf16 *from = c < a.W ? a.kCache + (slot * a.G + g) * a.W + c
					: PAIR ? a.vCache + (slot * a.G + g) * a.W + c - a.W : a.ropeCache + slot * a.R + c - a.W;
				copyOrZero(to + t * pitch + c * 2, from, old);
			}
		}
		asm volatile("cp.async.commit_group;" ::: "memory");
	};
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
	for (int n = 0; n < STAGES - 1; n++) fetch(n);
	asm volatile("griddepcontrol.wait;" ::: "memory");
	if (S == 0) return; // the whole cluster

	const float2 *angle = a.table + (long)(S - 1) * (a.turn / 2);
	for (int i = threadIdx.x; i < 16 * E; i += blockDim.x) {
		const int r = i / E, c = i % E, h = g * share + row0 + r, still = E - a.turn;
		bf16 x(0.f);
		if (r < rows) x = c < still ? __ldcg(a.q + b * a.qRow + (long)h * a.qHead + c) : bf16(turned(a.qTurn + b * a.qTurnRow + (long)h * a.qTurnHead, angle, c - still, a.turn));
		queries[r * (queryPitch / 2) + c] = x;
	}
	__syncthreads();
	uint32_t q[KS][4];
#pragma unroll
	for (int k = 0; k < KS; k++)
		matrices(q[k], shared_address(queries) + (lane % 16) * queryPitch + k * 32 + lane / 16 * 16);

	float o[NV * 2][4] = {}, most[2] = {-INFINITY, -INFINITY}, sum[2] = {};
	for (int n = 0; first + n * warps < units; n++) {
		fetch(n + STAGES - 1);
		asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1) : "memory");
		const int u = first + n * warps;
		char *unit = ring + n % STAGES * UNIT * pitch;
		if (u == units - 1) { // the new token: into shared memory, and to its page
			bf16 *x = (bf16 *)(unit + (S - 1) % UNIT * pitch);
			const long slot = slotOf(S - 1);
			const bf16 *k = a.k + b * a.kRow + (long)g * a.W;
			const bool own = tile == 0;
			float rstd = 0;
			__syncwarp();
			if (a.norm) {
				for (int c = lane; c < a.W; c += 32) rstd += float(__ldcg(k + c)) * float(__ldcg(k + c));
				rstd = rsqrtf(warp_sum(rstd) / a.W + a.eps);
			}
			for (int c = lane; c < width; c += 32) {
				bf16 y;
				bf16 *to = nullptr;
				if (c < a.W) {
					const int still = PAIR ? a.W - a.turn : a.W;
					if (c >= still) y = bf16(turned(k + still, angle, c - still, a.turn));
					else if (a.norm) y = bf16(float(__ldcg(k + c)) * rstd * float(a.norm[g * a.W + c]));
					else y = __ldcg(k + c);
					to = a.kCache + (slot * a.G + g) * a.W + c;
				} else if (PAIR) {
					y = __ldcg(a.v + b * a.vRow + (long)g * a.W + c - a.W);
					to = a.vCache + (slot * a.G + g) * a.W + c - a.W;
				} else {
					y = bf16(turned(a.kRope + b * a.kRopeRow, angle, c - a.W, a.R));
					if (g == 0) to = a.ropeCache + slot * a.R + c - a.W;
				}
				x[c] = y;
				if (own && to) *to = y;
			}
		}
		__syncwarp();
		const uint32_t at = shared_address(unit);
		float s[2][4] = {};
#pragma unroll
		for (int k = 0; k < KS; k++) {
			const int column = k * 16 < a.P ? k * 16 : a.W + k * 16 - a.P;
			uint32_t x[4]; // tokens 0-7, columns 0-7 and 8-15; tokens 8-15
			matrices(x, at + (lane % 8 + lane / 16 * 8) * pitch + (column + lane / 8 % 2 * 8) * 2);
			product(s[0], q[k], x[0], x[1]);
			product(s[1], q[k], x[2], x[3]);
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
			const float shrink = exp2f(most[i] - top[i]);
			sum[i] *= shrink;
			most[i] = top[i];
#pragma unroll
			for (int j = 0; j < NV * 2; j++) o[j][2 * i] *= shrink, o[j][2 * i + 1] *= shrink;
		}
#pragma unroll
		for (int j = 0; j < 2; j++)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				s[j][i] = exp2f(s[j][i] - most[i / 2]);
				sum[i / 2] += s[j][i];
			}
		const uint32_t p[4] = {pairOf(s[0][0], s[0][1]), pairOf(s[0][2], s[0][3]), pairOf(s[1][0], s[1][1]), pairOf(s[1][2], s[1][3])};
#pragma unroll
		for (int j = 0; j < NV; j++) {
			uint32_t x[4]; // tokens 0-7 and 8-15 of columns 0-7; of columns 8-15
			matricesTurned(x, at + (lane % 16) * pitch + ((PAIR ? a.W : 0) + j * 16 + lane / 16 * 8) * 2);
			product(o[2 * j], p, x[0], x[1]);
			product(o[2 * j + 1], p, x[2], x[3]);
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

	// partial [16, Dv] of each warp, with most and sum; then of the block, in the first warp's place
	float *parts = (float *)(memory + 16 * queryPitch), *mosts = parts + ATTEND_WARPS * 16 * Dv, *sums = mosts + ATTEND_WARPS * 16, *block = sums + ATTEND_WARPS * 16;
	float *mine = parts + warp * 16 * Dv;
#pragma unroll
	for (int j = 0; j < NV * 2; j++)
#pragma unroll
		for (int i = 0; i < 2; i++)
			*(float2 *)(mine + (lane / 4 + 8 * i) * Dv + j * 8 + lane % 4 * 2) = float2{o[j][2 * i], o[j][2 * i + 1]};
	if (lane % 4 == 0)
		for (int i = 0; i < 2; i++) mosts[warp * 16 + lane / 4 + 8 * i] = most[i], sums[warp * 16 + lane / 4 + 8 * i] = sum[i];
	__syncthreads();
	if (threadIdx.x < 16) {
		float m = -INFINITY, all = 0;
		for (int w = 0; w < ATTEND_WARPS; w++) m = fmaxf(m, mosts[w * 16 + threadIdx.x]);
		for (int w = 0; w < ATTEND_WARPS; w++) {
			const float weight = mosts[w * 16 + threadIdx.x] == -INFINITY ? 0.f : exp2f(mosts[w * 16 + threadIdx.x] - m);
			all += sums[w * 16 + threadIdx.x] * weight;
			sums[w * 16 + threadIdx.x] = weight;
		}
		block[threadIdx.x] = m, block[16 + threadIdx.x] = all;
	}
	__syncthreads();
	for (int i = threadIdx.x; i < rows * Dv; i += blockDim.x) {
		float x = 0;
		for (int w = 0; w < ATTEND_WARPS; w++) x += parts[w * 16 * Dv + i] * sums[w * 16 + i / Dv];
		parts[i] = x;
	}
	cluster_sync();
	const int n = rows * Dv, lo = n * rank / blocks, hi = n * (rank + 1) / blocks;
	for (int i = lo + threadIdx.x; i < hi; i += blockDim.x) {
		const int r = i / Dv;
		float m = -INFINITY, all = 0, x = 0;
		for (int w = 0; w < blocks; w++) m = fmaxf(m, remote(block + r, w));
		for (int w = 0; w < blocks; w++) {
			const float weight = exp2f(remote(block + r, w) - m);
			all += remote(block + 16 + r, w) * weight;
			x += remote(parts + i, w) * weight;
		}
		a.out[((long)b * a.H + g * share + row0 + r) * Dv + i % Dv] = bf16(x / all);
	}
	cluster_sync(); // nobody leaves while its memory is read
}
#else
template <int KS, int NV, int STAGES, bool PAIR> __device__ void step_attend(const StepAttend &) {}
#endif

#define ATTEND(name, KS, NV, STAGES, PAIR) \
	extern "C" __global__ void __launch_bounds__(ATTEND_WARPS * 32, 1) name(const __grid_constant__ StepAttend a) { step_attend<KS, NV, STAGES, PAIR>(a); }
ATTEND(step_attend_kv_64, 4, 4, 3, true)
ATTEND(step_attend_kv_96, 6, 6, 4, true)
ATTEND(step_attend_kv_128, 8, 8, 3, true)
ATTEND(step_attend_tied_64, 4, 4, 4, false)
ATTEND(step_attend_tied_96, 6, 6, 4, false)
ATTEND(step_attend_tied_128, 8, 8, 4, false)
ATTEND(step_attend_latent_128_32, 10, 8, 2, false)
ATTEND(step_attend_latent_192_32, 14, 12, 3, false)
ATTEND(step_attend_latent_256_32, 18, 16, 2, false)
ATTEND(step_attend_latent_256_64, 20, 16, 2, false)
