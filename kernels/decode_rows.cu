// What stands between the products of a decode step, for any dims, in float32 and bf16: looking tokens up, norms and
// SwiGLU of rows that lie in a wider product, the way of queries, keys and values into their places, the largest logit.
// A warp or a block takes a row; the rows are few. All of them start while the kernel before still runs.
#include "gelu.cuh"
#include "vector.cuh"

// after waits for the kernel before, and lets the next one start its own waiting.
__device__ __forceinline__ void after() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;" ::: "memory");
#endif
}

// fresh reads what the kernel before wrote: L1 may hold older lines, since this kernel was there before it ended.
__device__ __forceinline__ float fresh(const float *p) { return __ldcg(p); }
__device__ __forceinline__ float fresh(const bf16 *p) { return float(__ldcg(p)); }

#define ROWS(name, Args, threads) \
	extern "C" __global__ void __launch_bounds__(threads) name##_f32(const __grid_constant__ Args a) { name<float>(a); } \
	extern "C" __global__ void __launch_bounds__(threads) name##_bf16(const __grid_constant__ Args a) { name<bf16>(a); }

struct LookUpArgs {
	const int *given, *drawn; // [N]; a given token of -1-i stands for drawn[i]
	const void *table;        // [V, C]
	void *y;                  // [N, C]
	int C, V, first; // the table's first token
};
static_assert(sizeof(LookUpArgs) == 48);
template <typename T> __device__ void decode_look_up(const LookUpArgs &a) {
	after();
	int token = a.given[blockIdx.x];
	if (token < 0) token = __ldcg(a.drawn - 1 - token);
	token -= a.first;
	const bool there = unsigned(token) < unsigned(a.V);
	const T *from = (const T *)a.table + (long)(there ? token : 0) * a.C;
	T *to = (T *)a.y + (long)blockIdx.x * a.C;
	for (int c = threadIdx.x; c < a.C; c += blockDim.x) to[c] = there ? from[c] : T(0.f);
}
ROWS(decode_look_up, LookUpArgs, 256)

struct DecodeNormArgs {
	const void *x, *w; // [rows, groups, C] with a stride between rows; [groups, C]
	void *y;           // [rows, groups, C]
	long stride;
	int groups, C;
	float eps;
};
static_assert(sizeof(DecodeNormArgs) == 48);
template <typename T> __device__ void decode_norm(const DecodeNormArgs &a) {
	__shared__ float part[8];
	after();
	const long row = blockIdx.x / a.groups, group = blockIdx.x % a.groups;
	const T *x = (const T *)a.x + row * a.stride + group * a.C, *w = (const T *)a.w + group * a.C;
	T *y = (T *)a.y + (long)blockIdx.x * a.C;
	float squares = 0;
	for (int c = threadIdx.x; c < a.C; c += 256) squares += fresh(x + c) * fresh(x + c);
	squares = warp_sum(squares);
	if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = squares;
	__syncthreads();
	squares = 0;
	for (int i = 0; i < 8; i++) squares += part[i];
	const float rstd = rsqrtf(squares / a.C + a.eps);
	for (int c = threadIdx.x; c < a.C; c += 256) y[c] = T(fresh(x + c) * rstd * float(w[c]));
}
ROWS(decode_norm, DecodeNormArgs, 256)

struct DecodeGateArgs {
	const void *x; // [rows, 2F]: gate, up
	void *y;       // [rows, F]
	long n;        // rows · F
	int F;
};
static_assert(sizeof(DecodeGateArgs) == 32);
template <typename T> __device__ void decode_gate(const DecodeGateArgs &a) {
	after();
	const long i = (long)blockIdx.x * 256 + threadIdx.x;
	if (i >= a.n) return;
	const T *x = (const T *)a.x + i / a.F * 2 * a.F + i % a.F;
	const float g = fresh(x), up = fresh(x + a.F);
	((T *)a.y)[i] = T(g / (1.f + __expf(-g)) * up);
}
ROWS(decode_gate, DecodeGateArgs, 256)

// The same with the tanh form of GELU.
template <typename T> __device__ void decode_gelu(const DecodeGateArgs &a) {
	after();
	const long i = (long)blockIdx.x * 256 + threadIdx.x;
	if (i >= a.n) return;
	const T *x = (const T *)a.x + i / a.F * 2 * a.F + i % a.F;
	const float g = fresh(x), up = fresh(x + a.F);
	((T *)a.y)[i] = T(g * gelu_gate(g) * up);
}
ROWS(decode_gelu, DecodeGateArgs, 256)

struct DecodeOutputGateArgs {
	const void *g; // [rows, width / per] with a stride between rows
	void *o;       // [rows, width], to be gated
	long n, stride; // rows · width
	int width, per;
};
static_assert(sizeof(DecodeOutputGateArgs) == 40);
template <typename T> __device__ void decode_output_gate(const DecodeOutputGateArgs &a) {
	after();
	const long i = (long)blockIdx.x * 256 + threadIdx.x;
	if (i >= a.n) return;
	const float g = fresh((const T *)a.g + i / a.width * a.stride + i % a.width / a.per);
	T *o = (T *)a.o + i;
	*o = T(fresh(o) / (1.f + __expf(-g)));
}
ROWS(decode_output_gate, DecodeOutputGateArgs, 256)

// A PlacePart goes from rows of a product to where attention reads it: all columns of its heads but the last `rotate`
// as they are or normed, those rotated by the token's position.
struct PlacePart {
	const void *x, *norm; // norm [heads, dim], or nullptr
	void *y;
	const float2 *table; // [positions, rotate/2]: cos, sin
	long xRow, yRow;     // elements from one token to the next; of y in the cache, from one slot
	int xHead, yHead;    // and from one head to the next
	int heads, dim, rotate;
	int first;           // columns before it stay where they are
	int cache;           // 1: y is a slot of the cache, 0: rows of a batch
};
static_assert(sizeof(PlacePart) == 80);
struct PlaceArgs {
	PlacePart part[4];
	const int *positions, *rows; // [N]; rows: of the page table, -1 for a token that nobody wants
	const int *pages;
	int count, N, heads, maxPages, pageShift; // heads of all parts
	float eps;
};
static_assert(sizeof(PlaceArgs) == 368);
template <typename T> __device__ void decode_place(const PlaceArgs &a) {
	after();
	const int lane = threadIdx.x % 32;
	const long unit = (long)blockIdx.x * 4 + threadIdx.x / 32;
	const int token = unit / a.heads;
	int head = unit % a.heads, which = 0;
	if (token >= a.N) return;
	while (head >= a.part[which].heads) head -= a.part[which++].heads;
	const PlacePart &p = a.part[which];
	const int position = a.positions[token], row = a.rows[token];
	if (row < 0) return;
	long at = token;
	if (p.cache) at = (long)a.pages[(long)row * a.maxPages + (position >> a.pageShift)] << a.pageShift | (position & ((1 << a.pageShift) - 1));
	const T *x = (const T *)p.x + token * p.xRow + (long)head * p.xHead;
	T *y = (T *)p.y + at * p.yRow + (long)head * p.yHead;
	const int still = p.dim - p.rotate, half = p.rotate / 2;
	if (p.norm) {
		const T *w = (const T *)p.norm + (long)head * p.dim;
		float squares = 0;
		for (int c = lane; c < p.dim; c += 32) squares += fresh(x + c) * fresh(x + c);
		const float rstd = rsqrtf(warp_sum(squares) / p.dim + a.eps);
		for (int c = lane; c < still; c += 32) y[c] = T(fresh(x + c) * rstd * float(w[c]));
	} else {
		for (int c = p.first + lane; c < still; c += 32) y[c] = T(fresh(x + c));
	}
	const float2 *angle = p.table + (long)position * half;
	for (int i = lane; i < half; i += 32) {
		const float u = fresh(x + still + i), v = fresh(x + still + half + i);
		const float2 cs = angle[i];
		y[still + i] = T(u * cs.x - v * cs.y);
		y[still + half + i] = T(v * cs.x + u * cs.y);
	}
}
ROWS(decode_place, PlaceArgs, 128)

struct LargestArgs {
	const float *logits; // [rows, V]
	int *token;          // [rows]
	int V;
};
static_assert(sizeof(LargestArgs) == 24);
// The first of the largest.
extern "C" __global__ void __launch_bounds__(1024) decode_largest(const __grid_constant__ LargestArgs a) {
	__shared__ float values[32];
	__shared__ int places[32];
	after();
	const float *l = a.logits + (long)blockIdx.x * a.V;
	float best = -INFINITY;
	int place = a.V;
	auto meet = [&](float x, int i) {
		if (x > best || (x == best && i < place)) best = x, place = i;
	};
	for (int i = threadIdx.x; i < a.V; i += 1024) meet(__ldcg(l + i), i);
	for (int o = 16; o; o /= 2) meet(__shfl_xor_sync(~0u, best, o), __shfl_xor_sync(~0u, place, o));
	if (threadIdx.x % 32 == 0) values[threadIdx.x / 32] = best, places[threadIdx.x / 32] = place;
	__syncthreads();
	if (threadIdx.x >= 32) return;
	best = values[threadIdx.x], place = places[threadIdx.x];
	for (int o = 16; o; o /= 2) meet(__shfl_xor_sync(~0u, best, o), __shfl_xor_sync(~0u, place, o));
	if (threadIdx.x == 0) a.token[blockIdx.x] = min(place, a.V - 1);
}
