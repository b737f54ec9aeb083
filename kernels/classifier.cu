// The loss over a chunk of logits, whose gradient takes their place.
#include "classifier.cuh"

// One block a row. The row is read from memory once and a second time from L2 (1024 threads so that no more rows than
// L2 holds are under way), and written once: 2 passes. The last Pack may reach past V: what lies there is nobody's.
template <typename T, bool WIDE> __device__ void classifier(const ClassifierArgs &a) {
	constexpr int P = Pack<T>::N;
	const int target = a.targets[blockIdx.x];
	T *row = (T *)a.logits + int64_t(blockIdx.x) * a.stride;
	const int step = blockDim.x * P;
	if (target < 0) {
		if (threadIdx.x == 0)
			a.nll[blockIdx.x] = a.lse[blockIdx.x] = 0;
		Pack<T> zero = {};
		for (int c = threadIdx.x * P; a.weight && c < a.V; c += step)
			store<WIDE>(row + c, zero, a.V - c);
		return;
	}

	MaxSum mine = {-INFINITY, 0};
#pragma unroll 4
	for (int c = threadIdx.x * P; c < a.V; c += step) {
		Pack<T> x = load<WIDE>(row + c, a.V - c);
		const int count = min(P, a.V - c);
		float top = x[0];
#pragma unroll
		for (int j = 1; j < P; j++)
			top = fmaxf(top, j < count ? x[j] : top);
		if (top > mine.max) {
			mine.sum *= __expf(mine.max - top);
			mine.max = top;
		}
#pragma unroll
		for (int j = 0; j < P; j++)
			mine.sum += j < count ? __expf(x[j] - mine.max) : 0;
	}
	__shared__ MaxSum all[32];
#pragma unroll
	for (int o = 16; o > 0; o /= 2)
		mine = join(mine, {__shfl_xor_sync(~0u, mine.max, o), __shfl_xor_sync(~0u, mine.sum, o)});
	if (threadIdx.x % 32 == 0)
		all[threadIdx.x / 32] = mine;
	__syncthreads();
	MaxSum total = all[0];
	for (int w = 1; w < blockDim.x / 32; w++)
		total = join(total, all[w]);
	const float lse = total.max + __logf(total.sum);
	if (threadIdx.x == 0) {
		a.nll[blockIdx.x] = lse - float(row[target]);
		a.lse[blockIdx.x] = lse;
	}
	if (!a.weight)
		return;
	__syncthreads(); // row[target] was read
	const float weight = a.scale * a.weight[0], p_weight = weight * (1 + 2 * a.zloss * lse);
#pragma unroll 4
	for (int c = threadIdx.x * P; c < a.V; c += step) {
		Pack<T> x = load<WIDE>(row + c, a.V - c);
#pragma unroll
		for (int j = 0; j < P; j++)
			x.set(j, __expf(x[j] - lse) * p_weight - (c + j == target ? weight : 0));
		store<WIDE>(row + c, x, a.V - c);
	}
}
FORM(classifier_f32, classifier, float, true, ClassifierArgs, 1024)
FORM(classifier_bf16, classifier, bf16, true, ClassifierArgs, 1024)

struct LossArgs {
	const int *targets; // [n]
	const float *nll, *lse;
	float *weight; // 1 / number of targets that count
	float *loss;
	int n;
	float zloss;
};
static_assert(sizeof(LossArgs) == 48);

__device__ inline double block_sum(double x) { // of 1024 threads, in a fixed order
	__shared__ double all[32];
#pragma unroll
	for (int o = 16; o > 0; o /= 2)
		x += __shfl_xor_sync(~0u, x, o);
	if (threadIdx.x % 32 == 0)
		all[threadIdx.x / 32] = x;
	__syncthreads();
	double sum = 0;
	for (int w = 0; w < 32; w++)
		sum += all[w];
	return sum;
}

// weight = 1 / number of targets that count, by one block
extern "C" __global__ void __launch_bounds__(1024) loss_weight(const __grid_constant__ LossArgs a) {
	int count = 0;
	for (int i = threadIdx.x; i < a.n; i += 1024)
		count += a.targets[i] >= 0;
	double sum = block_sum(count);
	if (threadIdx.x == 0)
		*a.weight = sum > 0 ? float(1 / sum) : 0;
}

// loss = mean nll + zloss · mean lse², by one block
extern "C" __global__ void __launch_bounds__(1024) loss_mean(const __grid_constant__ LossArgs a) {
	double sum = 0;
	for (int i = threadIdx.x; i < a.n; i += 1024)
		sum += double(a.nll[i]) + double(a.zloss) * a.lse[i] * a.lse[i];
	sum = block_sum(sum);
	if (threadIdx.x == 0)
		*a.loss = float(sum * *a.weight);
}
