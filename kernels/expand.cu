// Products of factors over heads and over columns, and attention to a paged cache of such factors. The products come in
// a fast form, of packs of columns, and a plain one of any sizes, where a thread has one element; attention is plain, as
// that of decode_plain.cu.
#include "vector.cuh"

struct ExpandArgs {
	const void *a, *b; // [rows, H, R] and [rows, R, D], rows lda and ldb apart
	void *y;           // [rows, H, D]
	int64_t rows;
	int H, R, D, lda, ldb;
	float scale;
};
static_assert(sizeof(ExpandArgs) == 56);

// y = scale · a·b of each row
template <typename T> __device__ void expand(const ExpandArgs &p) {
	const int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x, row = i / (p.H * p.D);
	if (row >= p.rows)
		return;
	const int h = i / p.D % p.H, d = i % p.D;
	const T *a = (const T *)p.a + row * p.lda + h * p.R, *b = (const T *)p.b + row * p.ldb + d;
	float sum = 0;
	for (int r = 0; r < p.R; r++)
		sum += float(a[r]) * float(b[r * p.D]);
	((T *)p.y)[i] = T(p.scale * sum);
}
extern "C" __global__ void __launch_bounds__(256) expand_f32(const __grid_constant__ ExpandArgs a) { expand<float>(a); }
extern "C" __global__ void __launch_bounds__(256) expand_bf16(const __grid_constant__ ExpandArgs a) { expand<bf16>(a); }

constexpr int RANK = 8; // factors that a thread of the fast forms keeps

// The same, where a thread has one Pack of columns, of all heads, and keeps that of b: y is written once, in lines.
template <typename T> __device__ void expand_packs(const ExpandArgs &p) {
	constexpr int N = Pack<T>::N;
	const int packs = p.D / N;
	const int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x, row = i / packs;
	if (row >= p.rows)
		return;
	const int d = i % packs * N;
	const T *a = (const T *)p.a + row * p.lda, *b = (const T *)p.b + row * p.ldb + d;
	T *y = (T *)p.y + row * p.H * p.D + d;
	Pack<T> kept[RANK];
#pragma unroll
	for (int r = 0; r < RANK; r++)
		if (r < p.R) kept[r] = load<true>(b + r * p.D, N);
	for (int h = 0; h < p.H; h++) {
		float sum[N] = {};
#pragma unroll
		for (int r = 0; r < RANK; r++) {
			if (r >= p.R) break;
			const float head = float(a[h * p.R + r]);
#pragma unroll
			for (int j = 0; j < N; j++)
				sum[j] += head * kept[r][j];
		}
		Pack<T> out;
#pragma unroll
		for (int j = 0; j < N; j++)
			out.set(j, p.scale * sum[j]);
		store<true>(y + h * p.D, out, N);
	}
}
extern "C" __global__ void __launch_bounds__(256) expand_packs_f32(const __grid_constant__ ExpandArgs a) { expand_packs<float>(a); }
extern "C" __global__ void __launch_bounds__(256) expand_packs_bf16(const __grid_constant__ ExpandArgs a) { expand_packs<bf16>(a); }

struct ExpandGradArgs {
	const void *a, *b, *dy; // [rows, H, R], [rows, R, D], [rows, H, D]
	void *da, *db;          // as a and b
	int64_t rows;
	int H, R, D;
	float scale;
};
static_assert(sizeof(ExpandGradArgs) == 64);

// da = scale · dy·bᵀ and db = scale · aᵀ·dy of each row: a thread has one element of da, or of db behind them
template <typename T> __device__ void expand_grad(const ExpandGradArgs &p) {
	const int64_t heads = int64_t(p.H) * p.R, columns = int64_t(p.R) * p.D, i = int64_t(blockIdx.x) * 256 + threadIdx.x;
	const int64_t row = i / (heads + columns), at = i % (heads + columns);
	if (row >= p.rows)
		return;
	const T *dy = (const T *)p.dy + row * p.H * p.D;
	float sum = 0;
	if (at < heads) {
		const T *b = (const T *)p.b + row * columns + at % p.R * p.D;
		for (int d = 0; d < p.D; d++)
			sum += float(dy[at / p.R * p.D + d]) * float(b[d]);
		((T *)p.da)[row * heads + at] = T(p.scale * sum);
		return;
	}
	const int r = (at - heads) / p.D, d = (at - heads) % p.D;
	const T *a = (const T *)p.a + row * heads + r;
	for (int h = 0; h < p.H; h++)
		sum += float(a[h * p.R]) * float(dy[h * p.D + d]);
	((T *)p.db)[row * columns + at - heads] = T(p.scale * sum);
}
extern "C" __global__ void __launch_bounds__(256) expand_grad_f32(const __grid_constant__ ExpandGradArgs a) { expand_grad<float>(a); }
extern "C" __global__ void __launch_bounds__(256) expand_grad_bf16(const __grid_constant__ ExpandGradArgs a) { expand_grad<bf16>(a); }

// The same by packs: the lanes of a row, a power of two of them, each keep a Pack of b and sum one of db over the heads;
// da is a sum over the lanes.
template <typename T> __device__ void expand_grad_packs(const ExpandGradArgs &p) {
	constexpr int N = Pack<T>::N;
	const int packs = p.D / N, lanes = packs > 1 ? 1 << (32 - __clz(packs - 1)) : 1;
	const int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x, row = i / lanes;
	const int lane = i % lanes, d = lane * N;
	const bool there = row < p.rows, mine = there && lane < packs;
	const T *a = (const T *)p.a + row * p.H * p.R, *b = (const T *)p.b + row * p.R * p.D + d;
	const T *dy = (const T *)p.dy + row * p.H * p.D + d;
	Pack<T> kept[RANK];
	float sums[RANK][N] = {};
#pragma unroll
	for (int r = 0; r < RANK; r++)
		if (r < p.R) kept[r] = mine ? load<true>(b + r * p.D, N) : Pack<T>{};
	for (int h = 0; h < p.H; h++) {
		const Pack<T> g = mine ? load<true>(dy + h * p.D, N) : Pack<T>{};
#pragma unroll
		for (int r = 0; r < RANK; r++) {
			if (r >= p.R) break;
			const float head = there ? float(a[h * p.R + r]) : 0.f;
			float dot = 0;
#pragma unroll
			for (int j = 0; j < N; j++) {
				sums[r][j] += head * g[j];
				dot += g[j] * kept[r][j];
			}
			for (int o = lanes / 2; o > 0; o /= 2)
				dot += __shfl_xor_sync(~0u, dot, o);
			if (there && lane == 0) ((T *)p.da)[row * p.H * p.R + h * p.R + r] = T(p.scale * dot);
		}
	}
	if (!mine)
		return;
#pragma unroll
	for (int r = 0; r < RANK; r++) {
		if (r >= p.R) break;
		Pack<T> out;
#pragma unroll
		for (int j = 0; j < N; j++)
			out.set(j, p.scale * sums[r][j]);
		store<true>((T *)p.db + row * p.R * p.D + r * p.D + d, out, N);
	}
}
extern "C" __global__ void __launch_bounds__(256) expand_grad_packs_f32(const __grid_constant__ ExpandGradArgs a) { expand_grad_packs<float>(a); }
extern "C" __global__ void __launch_bounds__(256) expand_grad_packs_bf16(const __grid_constant__ ExpandGradArgs a) { expand_grad_packs<bf16>(a); }

struct FactorsArgs {
	const void *q;        // [N, H, D]
	const void *bk, *bv;  // [slots, R, D] twice
	const void *ak, *av;  // [slots, H, R] twice
	void *o;              // [N, H, D]
	const int *positions, *rows, *pages; // [N] twice, rows of pages [_, maxPages]; a row of -1 gets zeros
	int H, R, D, maxPages, pageShift, window;
	float scale;
};
static_assert(sizeof(FactorsArgs) == 104);

constexpr int WARPS = 4, COLUMNS = 8; // COLUMNS · 32 of a head at most

// One block a token and head: its warps take cached tokens in turn, a lane every 32nd column.
template <typename T> __device__ void factors(const FactorsArgs &a) {
	__shared__ float most[WARPS], sums[WARPS], outs[WARPS][COLUMNS * 32];
	const int token = blockIdx.x, h = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = a.rows[token];
	const int S = row < 0 ? 0 : a.positions[token] + 1;
	const float part = 1.f / a.R;
	float q[COLUMNS], o[COLUMNS] = {}, m = -INFINITY, sum = 0;
#pragma unroll
	for (int i = 0; i < COLUMNS; i++) {
		const int c = i * 32 + lane;
		q[i] = c < a.D ? float(((const T *)a.q)[((long)token * a.H + h) * a.D + c]) : 0.f;
	}
	const int first = a.window > 0 && S > a.window ? S - a.window : 0;
	for (int s = first + warp; s < S; s += WARPS) {
		const long slot = (long)a.pages[(long)row * a.maxPages + (s >> a.pageShift)] << a.pageShift | (s & ((1 << a.pageShift) - 1));
		const T *bk = (const T *)a.bk + slot * a.R * a.D, *bv = (const T *)a.bv + slot * a.R * a.D;
		const T *ak = (const T *)a.ak + (slot * a.H + h) * a.R, *av = (const T *)a.av + (slot * a.H + h) * a.R;
		float dot = 0;
		for (int r = 0; r < a.R; r++) {
			const float head = float(ak[r]);
#pragma unroll
			for (int i = 0; i < COLUMNS; i++)
				if (i * 32 + lane < a.D) dot += head * q[i] * float(bk[r * a.D + i * 32 + lane]);
		}
		dot = warp_sum(dot) * part * a.scale;
		if (dot > m) {
			const float shrink = expf(m - dot);
			sum *= shrink;
#pragma unroll
			for (int i = 0; i < COLUMNS; i++) o[i] *= shrink;
			m = dot;
		}
		const float w = expf(dot - m);
		sum += w;
		for (int r = 0; r < a.R; r++) {
			const float head = w * part * float(av[r]);
#pragma unroll
			for (int i = 0; i < COLUMNS; i++)
				if (i * 32 + lane < a.D) o[i] += head * float(bv[r * a.D + i * 32 + lane]);
		}
	}
	if (lane == 0) most[warp] = m, sums[warp] = sum;
#pragma unroll
	for (int i = 0; i < COLUMNS; i++) outs[warp][i * 32 + lane] = o[i];
	__syncthreads();
	float top = -INFINITY, all = 0;
	for (int w = 0; w < WARPS; w++) top = fmaxf(top, most[w]);
	for (int w = 0; w < WARPS; w++) all += sums[w] > 0 ? sums[w] * expf(most[w] - top) : 0.f;
	for (int c = threadIdx.x; c < a.D; c += WARPS * 32) {
		float x = 0;
		for (int w = 0; w < WARPS; w++)
			if (sums[w] > 0) x += outs[w][c] * expf(most[w] - top);
		((T *)a.o)[((long)token * a.H + h) * a.D + c] = T(all > 0 ? x / all : 0.f);
	}
}
extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_factors_f32(const __grid_constant__ FactorsArgs a) { factors<float>(a); }
extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_factors_bf16(const __grid_constant__ FactorsArgs a) { factors<bf16>(a); }
