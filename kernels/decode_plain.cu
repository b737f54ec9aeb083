// Attention to a paged cache for any dims and any number of new tokens, in float32 and bf16: plain and exact rather
// than fast. And the tokens of a request side by side, for kernels that know no pages.
#include "vector.cuh"

struct PlainArgs {
	const void *q;     // [N, H, P+R]
	const void *k, *v; // [slots, G, kDim], [slots, G, vDim]; they may be one
	const void *kRope; // [slots, R]
	void *o;           // [N, H, Dv]
	const int *positions, *rows, *pages; // [N] twice, rows of pages [_, maxPages]; a row of -1 gets zeros
	int H, G, P, R, Dv, kDim, vDim, maxPages, pageShift;
	float scale;
};
static_assert(sizeof(PlainArgs) == 104);

constexpr int WARPS = 4, KEY = 18, VALUE = 16; // KEY · 32 columns of a key at most, VALUE · 32 of a value

// Keys that lie unrotated: the last turn of their P columns are rotated as they are read.
struct TurnedArgs {
	PlainArgs plain;
	const float2 *table; // [positions, turn/2]: cos, sin
	int turn;
};
static_assert(sizeof(TurnedArgs) == 120);

// turned is column c of a key at a position.
template <typename T> __device__ float turned(const T *k, int c, int P, const float2 *table, int turn, int position) {
	const int half = turn / 2, j = c - (P - turn);
	if (j < 0) return float(k[c]);
	const float2 angle = table[(long)position * half + (j < half ? j : j - half)];
	return j < half ? float(k[c]) * angle.x - float(k[c + half]) * angle.y : float(k[c]) * angle.x + float(k[c - half]) * angle.y;
}

// The same, where a token sees the last window tokens alone. Keys lie unrotated where turn is above 0.
struct WindowArgs {
	PlainArgs plain;
	const float2 *table;
	int turn, window;
};
static_assert(sizeof(WindowArgs) == 120);

// One block a token and head: its warps take cached tokens from first on in turn, a lane every 32nd column.
template <typename T, bool TURN> __device__ void plain(const PlainArgs &a, const float2 *table, int turn, int window = 0) {
	__shared__ float most[WARPS], sums[WARPS], outs[WARPS][VALUE * 32];
	const int token = blockIdx.x, h = blockIdx.y, g = h / (a.H / a.G), E = a.P + a.R;
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = a.rows[token];
	const int S = row < 0 ? 0 : a.positions[token] + 1;
	float q[KEY], o[VALUE] = {}, m = -INFINITY, sum = 0;
#pragma unroll
	for (int i = 0; i < KEY; i++) {
		const int c = i * 32 + lane;
		q[i] = c < E ? float(((const T *)a.q)[((long)token * a.H + h) * E + c]) : 0.f;
	}
	const int first = window > 0 && S > window ? S - window : 0;
	for (int s = first + warp; s < S; s += WARPS) {
		const long slot = (long)a.pages[(long)row * a.maxPages + (s >> a.pageShift)] << a.pageShift | (s & ((1 << a.pageShift) - 1));
		const T *k = (const T *)a.k + (slot * a.G + g) * a.kDim, *kr = (const T *)a.kRope + slot * a.R - a.P;
		const T *v = (const T *)a.v + (slot * a.G + g) * a.vDim;
		float dot = 0;
#pragma unroll
		for (int i = 0; i < KEY; i++) {
			const int c = i * 32 + lane;
			if (c < a.P) {
				if constexpr (TURN) dot += q[i] * turned(k, c, a.P, table, turn, s);
				else dot += q[i] * float(k[c]);
			}
			else if (c < E) dot += q[i] * float(kr[c]);
		}
		dot = warp_sum(dot) * a.scale;
		if (dot > m) {
			const float shrink = expf(m - dot);
			sum *= shrink;
#pragma unroll
			for (int i = 0; i < VALUE; i++) o[i] *= shrink;
			m = dot;
		}
		const float w = expf(dot - m);
		sum += w;
#pragma unroll
		for (int i = 0; i < VALUE; i++)
			if (i * 32 + lane < a.Dv) o[i] += w * float(v[i * 32 + lane]);
	}
	if (lane == 0) most[warp] = m, sums[warp] = sum;
#pragma unroll
	for (int i = 0; i < VALUE; i++) outs[warp][i * 32 + lane] = o[i];
	__syncthreads();
	float top = -INFINITY, all = 0;
	for (int w = 0; w < WARPS; w++) top = fmaxf(top, most[w]);
	for (int w = 0; w < WARPS; w++) all += sums[w] > 0 ? sums[w] * expf(most[w] - top) : 0.f;
	for (int c = threadIdx.x; c < a.Dv; c += WARPS * 32) {
		float x = 0;
		for (int w = 0; w < WARPS; w++)
			if (sums[w] > 0) x += outs[w][c] * expf(most[w] - top);
		((T *)a.o)[((long)token * a.H + h) * a.Dv + c] = T(all > 0 ? x / all : 0.f);
	}
}
extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_plain_f32(const __grid_constant__ PlainArgs a) { plain<float, false>(a, nullptr, 0); }
extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_plain_bf16(const __grid_constant__ PlainArgs a) { plain<bf16, false>(a, nullptr, 0); }
extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_turned_f32(const __grid_constant__ TurnedArgs a) { plain<float, true>(a.plain, a.table, a.turn); }
extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_turned_bf16(const __grid_constant__ TurnedArgs a) { plain<bf16, true>(a.plain, a.table, a.turn); }

extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_window_f32(const __grid_constant__ WindowArgs a) { plain<float, false>(a.plain, nullptr, 0, a.window); }
extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_window_bf16(const __grid_constant__ WindowArgs a) { plain<bf16, false>(a.plain, nullptr, 0, a.window); }
extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_window_turned_f32(const __grid_constant__ WindowArgs a) { plain<float, true>(a.plain, a.table, a.turn, a.window); }
extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_window_turned_bf16(const __grid_constant__ WindowArgs a) { plain<bf16, true>(a.plain, a.table, a.turn, a.window); }

struct GatherArgs {
	const void *x; // [slots, width]
	void *y;       // [B, S, width]
	const int *pages;
	int S, width, maxPages, pageShift; // width in words of 4 bytes
};
static_assert(sizeof(GatherArgs) == 40);
extern "C" __global__ void __launch_bounds__(128) decode_gather(const __grid_constant__ GatherArgs a) {
	const long s = blockIdx.x, b = blockIdx.y;
	const long slot = (long)a.pages[b * a.maxPages + (s >> a.pageShift)] << a.pageShift | (s & ((1 << a.pageShift) - 1));
	for (int i = threadIdx.x; i < a.width; i += 128) ((float *)a.y)[(b * a.S + s) * a.width + i] = ((const float *)a.x)[slot * a.width + i];
}
