// Fused products of a decode step: Y = norm(X)·Wᵀ for 1 to 16 rows of X, with what stands before and behind them (norm,
// bias, residual, SwiGLU, the largest logit), as fast as W can be read. W is the wide operand of mma.sync m16n8k16: a
// block takes 16 rows of W at a time, its 8 warps share K in units of 64, interleaved, and each warp has a ring of
// units under way in shared memory that only it uses. X goes from L2 straight into the registers that multiply it, and
// stays there for all tiles of the block; rows of X are columns of the matrix instruction, so a row's bits do not
// depend on its neighbours. The norm's 1/rms, one number a row, multiplies the sums at the end: a block needs no second
// look at X.
#include "mma.cuh"
#include "step.cuh"

struct StepProductArgs {
	const bf16 *x;    // [rows, in] at ldx, heads at stepX
	const bf16 *norm; // [in]
	const bf16 *w;    // [heads, out, in]; gate: [2·out, in]
	const bf16 *bias; // [heads, out], or nullptr
	void *y;          // [rows, out] at ldy, heads at stepY; logits in float, or nullptr
	unsigned long long *best; // logits: [rows, blocks]
	int rows, in, out, ldx, ldy;
	int heads, stepX, stepY, copy;
	int tiles; // of one head
	int slots; // of a warp's ring
	float eps;
};
static_assert(sizeof(StepProductArgs) == 96);

enum StepForm { STEP_PLAIN, STEP_ADD, STEP_GATE, STEP_LOGITS };

constexpr int step_warps = 8, step_unit = 64;
template <int NT> constexpr int step_ring = NT == 1 ? 6 : 5; // units under way of a warp: two blocks share a multiprocessor

// A Feed asks for the units of one warp, tile after tile. A unit is 16 rows of W by 64 columns, 128 bytes a row, each
// lane copying 16 bytes of four rows. The half of a row changes places in every second row, so that reading has no
// conflicts.
template <int NT, StepForm FORM> struct Feed {
	const StepProductArgs &a;
	uint32_t ring, to;
	const bf16 *from;
	int lane, head = 0, tile, unit, units, first, slot = 0; // tile of the head
	unsigned valid;

	__device__ Feed(const StepProductArgs &a, uint32_t ring) : a(a), ring(ring), lane(threadIdx.x % 32), tile(blockIdx.x) {
		first = unit = threadIdx.x / 32;
		units = (a.in + step_unit - 1) / step_unit;
		to = (lane / 8) * 128 + ((lane % 8) ^ (lane / 8 & 1) << 2) * 16;
		rows();
	}
	__device__ void rows() {
#pragma unroll 1
		for (; tile >= a.tiles && head < a.heads; head++)
			tile -= a.tiles;
		const int n = tile * (FORM == STEP_GATE ? 8 : 16) + lane / 8;
		from = a.w + (int64_t(head) * a.out + n) * a.in + lane % 8 * 8;
		valid = 0;
#pragma unroll
		for (int j = 0; j < 4; j++)
			valid |= unsigned(n + 4 * (FORM == STEP_GATE ? j % 2 : j) < a.out) << j;
		if (head == a.heads)
			units = 0;
	}
	__device__ bool done() const { return unit >= units; } // all is asked for
	__device__ void next() {
		if (!done()) {
			const bool in = unit * step_unit + lane % 8 * 8 < a.in;
			const bf16 *p = from + unit * step_unit;
#pragma unroll
			for (int j = 0; j < 4; j++) {
				const int64_t row = FORM == STEP_GATE ? int64_t(j / 2) * a.out + j % 2 * 4 : j * 4;
				const bool there = in && valid >> j & 1;
				copyAsync16(ring + slot * 2048 + j * 512 + to, p + row * a.in, there);
			}
			slot = slot + 1 == step_ring<NT> ? 0 : slot + 1;
			if ((unit += step_warps) >= units) {
				unit = first;
				tile += gridDim.x;
				rows();
			}
		}
		copyCommit();
	}
};

__device__ __forceinline__ uint4 shared16(uint32_t addr) {
	uint4 v;
	asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(addr) : "memory");
	return v;
}

// multiply adds 16 rows of W by 32 columns, of which this lane has 8 of rows g and g + 8, times 32 columns of 8 rows of
// X.
__device__ __forceinline__ void multiply(float *d, const uint4 &lo, const uint4 &hi, const uint4 &x) {
	const uint32_t a[4] = {lo.x, hi.x, lo.y, hi.y}, b[4] = {lo.z, hi.z, lo.w, hi.w};
	mma16816(d, a, x.x, x.y);
	mma16816(d, b, x.z, x.w);
}

__device__ __forceinline__ uint32_t scaled(uint32_t x, uint32_t w) {
	asm("{.reg .b32 z; mov.b32 z, 0x80008000; fma.rn.bf16x2 %0, %0, %1, z;}" : "+r"(x) : "r"(w));
	return x;
}
__device__ __forceinline__ uint4 scaled(uint4 x, uint4 w) {
	return {scaled(x.x, w.x), scaled(x.y, w.y), scaled(x.z, w.z), scaled(x.w, w.w)};
}
__device__ __forceinline__ float square(uint32_t x) { return lowBF16(x) * lowBF16(x) + highBF16(x) * highBF16(x); }
__device__ __forceinline__ float square(uint4 x) { return square(x.x) + square(x.y) + square(x.z) + square(x.w); }

// UW units of X at a time are in registers.
template <int NT, int UW, StepForm FORM, bool NORM> __device__ __forceinline__ void step_product(const StepProductArgs &a) {
	constexpr int P = step_ring<NT>;
	extern __shared__ __align__(128) char shared[]; // the rings [8, slots, 2048]; slots is P, or less where that holds all units
	__shared__ float4 part[2][NT][step_warps][32];  // sums of the warps, as the lanes hold them
	__shared__ float squares[step_warps][8 * NT];
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
	const uint32_t ring = smemAddress(shared) + warp * a.slots * 2048;
	const int all = a.heads * a.tiles, units = (a.in + step_unit - 1) / step_unit, chunks = (units + step_warps * UW - 1) / (step_warps * UW);

	Feed<NT, FORM> feed(a, ring);
#pragma unroll 1
	for (int i = 0; i < P; i++)
		feed.next();
	if (feed.done())
		step_begin();

	uint4 x[UW][NT][2];
	auto column = [&](int chunk, int u, int half) { return (warp + step_warps * (chunk * UW + u)) * step_unit + half * 32 + t * 8; };
	float sum[NT] = {};
	auto load_x = [&](int chunk, int head, float first) { // first: 1 for the block's first tile, else 0
		uint4 norm[NORM ? UW : 1][2];
		const bf16 *from = a.x + int64_t(head) * a.stepX;
#pragma unroll
		for (int u = 0; u < UW; u++)
#pragma unroll
			for (int h = 0; h < 2; h++) {
				const int k = column(chunk, u, h);
				if (NORM)
					norm[u][h] = k < a.in ? __ldg((const uint4 *)(a.norm + k)) : uint4{};
#pragma unroll
				for (int nt = 0; nt < NT; nt++)
					x[u][nt][h] = k < a.in && nt * 8 + g < a.rows ? __ldcg((const uint4 *)(from + (nt * 8 + g) * a.ldx + k)) : uint4{};
			}
		if (NORM)
#pragma unroll
			for (int u = 0; u < UW; u++)
#pragma unroll
				for (int h = 0; h < 2; h++)
#pragma unroll
					for (int nt = 0; nt < NT; nt++) {
						sum[nt] = fmaf(square(x[u][nt][h]), first, sum[nt]);
						x[u][nt][h] = scaled(x[u][nt][h], norm[u][h]);
					}
	};
	if (NORM)
#pragma unroll 1
		for (int k = threadIdx.x * 64; k < a.in; k += blockDim.x * 64)
			asm volatile("prefetch.global.L2 [%0];" ::"l"(a.norm + k));
	step_wait();

	if (a.copy > 0)
#pragma unroll 1
		for (int head = blockIdx.x; head < a.heads; head += gridDim.x)
#pragma unroll 1
			for (int i = threadIdx.x; i < a.rows * a.copy / 8; i += blockDim.x) {
				const int row = i / (a.copy / 8), c = i % (a.copy / 8) * 8;
				*(uint4 *)((bf16 *)a.y + int64_t(row) * a.ldy + int64_t(head) * a.stepY + a.out + c) =
					__ldcg((const uint4 *)(a.x + int64_t(row) * a.ldx + int64_t(head) * a.stepX + a.in + c));
			}

	unsigned long long best[2] = {};
	const uint32_t mine = ring + g * 128 + (t ^ (g & 1) << 2) * 16;
	int slot = 0, turn = 0;
	for (int tile = blockIdx.x; tile < all; tile += gridDim.x, turn++) {
		const int head = tile / a.tiles, n = (tile - head * a.tiles) * (FORM == STEP_GATE ? 8 : 16) + g;
		const int nt = NT == 1 ? 0 : warp % NT; // the columns that this warp may finish
		const bool finish = warp == (turn * NT + nt) % step_warps;
		// what the end of the tile needs besides the sums
		float start[4] = {};
		if (finish && FORM != STEP_GATE && FORM != STEP_LOGITS)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				const int row = nt * 8 + 2 * t + i % 2, c = n + i / 2 * 8;
				if (row < a.rows && c < a.out) {
					if (a.bias)
						start[i] = float(a.bias[head * a.out + c]);
					if (FORM == STEP_ADD)
						start[i] += __uint_as_float(unsigned(__ldcg((const unsigned short *)a.y + int64_t(row) * a.ldy + c)) << 16);
				}
			}
		float d[NT][2][4] = {};
		for (int chunk = 0; chunk < chunks; chunk++) {
			if (turn == 0 || chunks > 1 || a.heads > 1)
				load_x(chunk, head, turn == 0 ? 1.f : 0.f);
#pragma unroll
			for (int u = 0; u < UW; u++) {
				if (warp + step_warps * (chunk * UW + u) >= units)
					break;
				copyWait<P - 1>();
				__syncwarp();
				const uint32_t at = mine + slot * 2048, over = at ^ 64;
				const uint4 w0 = shared16(at), w1 = shared16(at + 1024), w2 = shared16(over), w3 = shared16(over + 1024);
#pragma unroll
				for (int nt = 0; nt < NT; nt++) {
					multiply(d[nt][0], w0, w1, x[u][nt][0]);
					multiply(d[nt][1], w2, w3, x[u][nt][1]);
				}
				slot = slot + 1 == P ? 0 : slot + 1;
				feed.next();
				if (feed.done()) // the next kernel's weights come after this one's, not between them
					step_begin();
			}
		}
		const int buf = turn % 2;
#pragma unroll
		for (int nt = 0; nt < NT; nt++)
			part[buf][nt][warp][lane] = {d[nt][0][0] + d[nt][1][0], d[nt][0][1] + d[nt][1][1], d[nt][0][2] + d[nt][1][2], d[nt][0][3] + d[nt][1][3]};
		if (NORM && turn == 0)
#pragma unroll
			for (int nt = 0; nt < NT; nt++) {
				float s = sum[nt];
				s += __shfl_xor_sync(~0u, s, 1);
				s += __shfl_xor_sync(~0u, s, 2);
				if (t == 0)
					squares[warp][nt * 8 + g] = s;
			}
		__syncthreads();
		if (!finish)
			continue;
		float v[4] = {}, scale[2] = {1.f, 1.f};
#pragma unroll
		for (int w = 0; w < step_warps; w++) {
			const float4 p = part[buf][nt][w][lane];
			v[0] += p.x, v[1] += p.y, v[2] += p.z, v[3] += p.w;
		}
		if (NORM)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				float s = 0;
#pragma unroll
				for (int w = 0; w < step_warps; w++)
					s += squares[w][nt * 8 + 2 * t + i];
				scale[i] = rsqrtf(s / a.in + a.eps);
			}
#pragma unroll
		for (int i = 0; i < 4; i++) {
			const int row = nt * 8 + 2 * t + i % 2, c = n + i / 2 * 8;
			const float sum = v[i] * scale[i % 2];
			if (row >= a.rows || c >= a.out)
				continue;
			if (FORM == STEP_GATE) {
				if (i < 2) {
					const float up = v[i + 2] * scale[i];
					((bf16 *)a.y)[int64_t(row) * a.ldy + c] = bf16(sum / (1.f + __expf(-sum)) * up);
				}
			} else if (FORM == STEP_LOGITS) {
				if (a.y)
					((float *)a.y)[int64_t(row) * a.ldy + c] = sum;
				best[i % 2] = max(best[i % 2], step_key(sum, c));
			} else {
				((bf16 *)a.y)[int64_t(row) * a.ldy + int64_t(head) * a.stepY + c] = bf16(sum + start[i]);
			}
		}
	}
	copyWait<0>();

	if (FORM == STEP_LOGITS) { // the block's best of each row
		__syncthreads();
		unsigned long long *bests = (unsigned long long *)part; // [8, 8]
#pragma unroll
		for (int i = 0; i < 2; i++) {
#pragma unroll
			for (int o = 4; o < 32; o *= 2)
				best[i] = max(best[i], __shfl_xor_sync(~0u, best[i], o));
			if (g == 0)
				bests[warp * 8 + 2 * t + i] = best[i];
		}
		__syncthreads();
		const int row = threadIdx.x;
		if (row < a.rows) {
			unsigned long long key = 0;
			for (int w = row / 8; w < step_warps; w += NT)
				key = max(key, bests[w * 8 + row % 8]);
			a.best[int64_t(row) * gridDim.x + blockIdx.x] = key;
		}
	}
}

#define STEP(name, NT, UW, FORM, NORM) \
	extern "C" __global__ void __launch_bounds__(256, 2) name##_n##NT##_u##UW(const __grid_constant__ StepProductArgs a) { step_product<NT, UW, FORM, NORM>(a); }
#define STEPS(name, FORM, NORM) \
	STEP(name, 1, 4, FORM, NORM) \
	STEP(name, 2, 3, FORM, NORM) \
	STEP(name, 2, 4, FORM, NORM)
STEPS(step_plain, STEP_PLAIN, false)
STEPS(step_add, STEP_ADD, false)
STEPS(step_norm, STEP_PLAIN, true)
STEPS(step_gate, STEP_GATE, true)
STEPS(step_logits, STEP_LOGITS, true)
STEP(step_add, 1, 8, STEP_ADD, false)
