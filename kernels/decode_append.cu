// The new tokens' way into the paged cache: rotation, the latents' norm and the scattered write in one launch. A warp
// takes one row of one token: kv head or latent g, or the rope key after them. Statistics and angles are fp32.
#include "vector.cuh"

struct AppendArgs {
	const bf16 *k;      // [B, T, G, D]: keys, tied states or raw latents
	const bf16 *v;      // [B, T, G, D], or nullptr
	const bf16 *kRope;  // [B, T, R], or nullptr
	const bf16 *norm;   // [G, D]: weights of the latents' norm, or nullptr
	const float2 *table; // [positions, rotated/2]: cos, sin
	bf16 *kCache;       // [slots, G, D]
	bf16 *vCache;       // [slots, G, D]
	bf16 *ropeCache;    // [slots, R]
	const int *pages;   // [B, maxPages]
	const int *lengths; // [B], the T new tokens included
	int B, T, G, D, R, maxPages, pageShift;
	int rotate;           // 1: rotate k over all of D
	float eps;
};
static_assert(sizeof(AppendArgs) == 120);

__device__ void copyRow(bf16 *dst, const bf16 *src, int n, int lane) {
	for (int i = lane; i < n / 8; i += 32) ((uint4 *)dst)[i] = ((const uint4 *)src)[i];
}

// rotateRow rotates (x[i], x[i + n/2]) for all i.
__device__ void rotateRow(bf16 *dst, const bf16 *src, const float2 *angle, int n, int lane) {
	for (int i = lane; i < n / 2; i += 32) {
		const float u = float(src[i]), v = float(src[i + n / 2]);
		const float2 cs = angle[i];
		dst[i] = bf16(u * cs.x - v * cs.y);
		dst[i + n / 2] = bf16(v * cs.x + u * cs.y);
	}
}

extern "C" __global__ void __launch_bounds__(128) decode_append(const __grid_constant__ AppendArgs a) {
	const int rows = a.G + (a.kRope ? 1 : 0), lane = threadIdx.x & 31;
	const long i = (long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
	if (i >= (long)a.B * a.T * rows) return;
	const long token = i / rows; // of [B, T]
	const int row = i % rows, b = token / a.T, position = a.lengths[b] - a.T + int(token - (long)b * a.T);
	if (position < 0 || position >> a.pageShift >= a.maxPages) return; // a request with less room than T tokens
	const long slot = (long)a.pages[(long)b * a.maxPages + (position >> a.pageShift)] << a.pageShift | (position & ((1 << a.pageShift) - 1));
	if (row == a.G) {
		rotateRow(a.ropeCache + slot * a.R, a.kRope + token * a.R, a.table + (long)position * (a.R / 2), a.R, lane);
		return;
	}
	const long from = (token * a.G + row) * a.D, to = (slot * a.G + row) * a.D;
	if (a.v) copyRow(a.vCache + to, a.v + from, a.D, lane);
	if (a.rotate) {
		rotateRow(a.kCache + to, a.k + from, a.table + (long)position * (a.D / 2), a.D, lane);
	} else if (a.norm) {
		float squares = 0.f;
		for (int c = lane; c < a.D; c += 32) squares += float(a.k[from + c]) * float(a.k[from + c]);
		const float rstd = rsqrtf(warp_sum(squares) / a.D + a.eps);
		for (int c = lane; c < a.D; c += 32) // rounded before the weight, as in training
			a.kCache[to + c] = bf16(float(bf16(float(a.k[from + c]) * rstd)) * float(a.norm[row * a.D + c]));
	} else {
		copyRow(a.kCache + to, a.k + from, a.D, lane);
	}
}

// decode_check looks for page numbers outside the pool among those that a request's length reaches: fault[0] becomes 1
// + the request's number.
struct CheckArgs {
	const int *pages, *lengths;
	int *fault;
	int B, maxPages, pageShift, pool;
};
static_assert(sizeof(CheckArgs) == 40);
extern "C" __global__ void __launch_bounds__(128) decode_check(const __grid_constant__ CheckArgs c) {
	const int b = blockIdx.x, length = c.lengths[b];
	const long room = (long)c.maxPages << c.pageShift;
	bool bad = length < 0 || length > room;
	const int used = (int)((min((long)max(length, 0), room) + (1l << c.pageShift) - 1) >> c.pageShift);
	for (int i = threadIdx.x; i < used; i += blockDim.x) {
		const int page = c.pages[(long)b * c.maxPages + i];
		bad |= page < 0 || page >= c.pool;
	}
	if (bad) atomicMax(c.fault, b + 1);
}
