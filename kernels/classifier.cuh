// What the classifier's two kernels share.
#pragma once
#include "vector.cuh"

struct ClassifierArgs {
	void *logits;         // [rows, V], the gradient afterwards
	const int *targets;   // [rows], negative: ignored
	float *nll, *lse;     // [rows]
	const float *weight;  // 1 / number of targets; nil: no gradient is wanted
	float scale, zloss;   // the gradient is that of scale · (mean nll + zloss · mean lse²)
	int V, stride;        // of a row of logits, a multiple of 8
};
static_assert(sizeof(ClassifierArgs) == 56);

struct MaxSum {
	float max, sum; // of exp(x - max)
};

__device__ inline MaxSum join(MaxSum a, MaxSum b) {
	float m = fmaxf(a.max, b.max);
	if (m == -INFINITY)
		return a;
	return {m, a.sum * __expf(a.max - m) + b.sum * __expf(b.max - m)};
}
