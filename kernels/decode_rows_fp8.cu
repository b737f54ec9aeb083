// The way of new tokens into an 8-bit cache, the way back where other kernels want them side by side in bf16, plain
// attention to such a cache, and noise to time with.
#include "fp8.cuh"
#include <cuda_fp8.h>

namespace {

__device__ __forceinline__ void after() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ float fresh(const bf16 *p) { return float(__ldcg(p)); }

// toE4M3 rounds to nearest, ties to even; what is above 448 becomes 448.
__device__ __forceinline__ uint8_t toE4M3(float x) { return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3); }
__device__ __forceinline__ float fromE4M3(uint8_t x) { return __half2float(__half(__nv_cvt_fp8_to_halfraw(x, __NV_E4M3))); }

// powerOf is 2^(byte-127), which is NaN where byte is 255.
__device__ __forceinline__ float powerOf(int byte) { return byte == 255 ? __int_as_float(0x7fffffff) : __uint_as_float(byte << 23); }

} // namespace

// An entry is what tokens leave in one slot of the cache: heads of dim columns, of which the last `rotate` are rotated
// by the token's position and the others are normed, or left.
struct EntryArgs {
	const bf16 *x, *norm;        // norm [heads, dim], or nullptr
	uint8_t *y, *scales;   // [slots, heads, dim]; [pages, heads, page]
	const float2 *table;         // [positions, rotate/2]: cos, sin
	long xRow;                   // elements from one token to the next
	int xHead, heads, dim, rotate;
};
static_assert(sizeof(EntryArgs) == 64);
struct PlaceFP8Args {
	EntryArgs entry[2];
	const int *positions, *rows, *pages; // [N] twice; rows: of the page table, -1 for a token that nobody wants
	int N, maxPages, pageShift;
	float eps;
};
static_assert(sizeof(PlaceFP8Args) == 168);

// A warp takes a head of a token. The scale is the least power of two by which no element is above 448; a vector with
// a NaN or an infinity becomes NaN, all of it.
extern "C" __global__ void __launch_bounds__(128) decode_place_fp8(const __grid_constant__ PlaceFP8Args a) {
	after();
	const EntryArgs &e = a.entry[blockIdx.y];
	const int lane = threadIdx.x % 32;
	const long unit = (long)blockIdx.x * 4 + threadIdx.x / 32, token = unit / e.heads;
	const int head = unit % e.heads;
	if (token >= a.N) return;
	const int position = a.positions[token], row = a.rows[token];
	if (row < 0) return;
	const long page = a.pages[(long)row * a.maxPages + (position >> a.pageShift)];
	const int within = position & ((1 << a.pageShift) - 1);
	const bf16 *x = e.x + token * e.xRow + (long)head * e.xHead, *w = e.norm + (long)head * e.dim;
	const int still = e.dim - e.rotate, half = e.rotate / 2;
	const float2 *angle = e.table + (long)position * half;
	float rstd = 0;
	if (e.norm) {
		float squares = 0;
		for (int c = lane; c < e.dim; c += 32) squares += fresh(x + c) * fresh(x + c);
		rstd = rsqrtf(warp_sum(squares) / e.dim + a.eps);
	}
	auto value = [&](int c) {
		if (c < still) return e.norm ? fresh(x + c) * rstd * float(w[c]) : fresh(x + c);
		const int i = c - still;
		const float2 cs = angle[i < half ? i : i - half];
		return i < half ? fresh(x + c) * cs.x - fresh(x + c + half) * cs.y : fresh(x + c) * cs.x + fresh(x + c - half) * cs.y;
	};
	unsigned top = 0;
	for (int c = lane; c < e.dim; c += 32) top = max(top, __float_as_uint(value(c)) & 0x7fffffffu);
	top = __reduce_max_sync(~0u, top);
	const bool bad = top >= 255u << 23;
	const int scale = bad ? 255 : min(max(int((top + 0x1fffffu) >> 23) - 8, 10), 246);
	const float inverse = __uint_as_float((254 - scale) << 23);
	uint8_t *y = e.y + (((page << a.pageShift) + within) * e.heads + head) * e.dim;
	for (int c = lane; c < e.dim; c += 32) y[c] = bad ? 0x7f : toE4M3(value(c) * inverse);
	if (lane == 0) e.scales[((page * e.heads + head) << a.pageShift) + within] = scale;
}

struct GatherFP8Args {
	const uint8_t *x, *scales; // [slots, heads, dim]; [pages, heads, page]
	bf16 *y;                         // [B, S, heads, dim]
	const int *pages;
	int S, heads, dim, maxPages, pageShift;
};
static_assert(sizeof(GatherFP8Args) == 56);
extern "C" __global__ void __launch_bounds__(128) decode_gather_fp8(const __grid_constant__ GatherFP8Args a) {
	const long s = blockIdx.x, b = blockIdx.y, page = a.pages[b * a.maxPages + (s >> a.pageShift)];
	const int within = s & ((1 << a.pageShift) - 1), width = a.heads * a.dim;
	const uint8_t *x = a.x + ((page << a.pageShift) + within) * width, *scales = a.scales + ((page * a.heads) << a.pageShift) + within;
	for (int c = threadIdx.x * 2; c < width; c += 256) { // two columns of a head
		const float scale = powerOf(scales[c / a.dim << a.pageShift]);
		*(uint32_t *)(a.y + (b * a.S + s) * width + c) = packBF16(fromE4M3(x[c]) * scale, fromE4M3(x[c + 1]) * scale);
	}
}

// Attention to an 8-bit cache for any dims and any number of new tokens, as decode_plain.cu has it for others.
struct PlainFP8Args {
	const bf16 *q;                   // [N, H, P+R]
	const uint8_t *k, *v;      // [slots, G, kDim], [slots, G, vDim]; they may be one
	const uint8_t *kScale, *vScale; // [pages, G, page]
	const bf16 *kRope;               // [slots, R]
	bf16 *o;                         // [N, H, Dv]
	const int *positions, *rows, *pages; // [N] twice, rows of pages [_, maxPages]; a row of -1 gets zeros
	const float2 *table;             // [positions, turn/2]: cos, sin
	int H, G, P, R, Dv, kDim, vDim, maxPages, pageShift, turn, window;
	float scale;
};
static_assert(sizeof(PlainFP8Args) == 136);

constexpr int WARPS = 4, KEY = 18, VALUE = 16;

extern "C" __global__ void __launch_bounds__(WARPS * 32) decode_plain_fp8(const __grid_constant__ PlainFP8Args a) {
	__shared__ float most[WARPS], sums[WARPS], outs[WARPS][VALUE * 32];
	const int token = blockIdx.x, h = blockIdx.y, g = h / (a.H / a.G), E = a.P + a.R, half = a.turn / 2;
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = a.rows[token];
	const int S = row < 0 ? 0 : a.positions[token] + 1, first = a.window > 0 && S > a.window ? S - a.window : 0;
	float q[KEY], o[VALUE] = {}, m = -INFINITY, sum = 0;
#pragma unroll
	for (int i = 0; i < KEY; i++) q[i] = i * 32 + lane < E ? float(a.q[((long)token * a.H + h) * E + i * 32 + lane]) : 0.f;
	for (int s = first + warp; s < S; s += WARPS) {
		const long page = a.pages[(long)row * a.maxPages + (s >> a.pageShift)], within = s & ((1 << a.pageShift) - 1);
		const long slot = (page << a.pageShift) + within, at = ((page * a.G + g) << a.pageShift) + within;
		const uint8_t *k = a.k + (slot * a.G + g) * a.kDim, *v = a.v + (slot * a.G + g) * a.vDim;
		const bf16 *kr = a.kRope + slot * a.R - a.P;
		const float kScale = powerOf(a.kScale[at]), vScale = powerOf(a.vScale[at]);
		auto key = [&](int c) { return fromE4M3(k[c]) * kScale; };
		float dot = 0;
#pragma unroll
		for (int i = 0; i < KEY; i++) {
			const int c = i * 32 + lane, j = c - (a.P - a.turn);
			if (c < a.P && j < 0) dot += q[i] * key(c);
			else if (c < a.P) {
				const float2 cs = a.table[(long)s * half + (j < half ? j : j - half)];
				dot += q[i] * (j < half ? key(c) * cs.x - key(c + half) * cs.y : key(c) * cs.x + key(c - half) * cs.y);
			} else if (c < E) dot += q[i] * float(kr[c]);
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
			if (i * 32 + lane < a.Dv) o[i] += w * (fromE4M3(v[i * 32 + lane]) * vScale);
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
		a.o[((long)token * a.H + h) * a.Dv + c] = bf16(all > 0 ? x / all : 0.f);
	}
}

// Vectors of numbers near normal, of standard deviation 1, with the scale that they mostly have.
struct NoiseFP8Args {
	uint8_t *y, *scales;
	long n, vectors; // elements, scales
	uint64_t seed;
};
static_assert(sizeof(NoiseFP8Args) == 40);
extern "C" __global__ void __launch_bounds__(256) decode_noise_fp8(const __grid_constant__ NoiseFP8Args a) {
	const long i = (long)blockIdx.x * 256 + threadIdx.x;
	unsigned long x = a.seed + (i + 1) * 0x9e3779b97f4a7c15ul; // splitmix64
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ul, x = (x ^ x >> 27) * 0x94d049bb133111ebul, x ^= x >> 31;
	const float sum = (x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48); // of four: 37,837 is its deviation
	if (i < a.n) a.y[i] = toE4M3((sum - 131070.f) * (128.f / 37837.f));
	if (i < a.vectors) a.scales[i] = 127 - 7;
}
