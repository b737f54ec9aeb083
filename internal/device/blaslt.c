//go:build cuda || gpu

#include "blaslt.h"
#include <dlfcn.h>
#include <string.h>

#define FUNCTIONS(X) \
	X(cublasLtCreate) X(cublasLtDestroy) X(cublasLtMatmul) X(cublasLtMatmulAlgoGetHeuristic) X(cublasLtMatmulDescCreate) \
	X(cublasLtMatmulDescDestroy) X(cublasLtMatmulDescSetAttribute) X(cublasLtMatrixLayoutCreate) X(cublasLtMatrixLayoutDestroy) \
	X(cublasLtMatrixLayoutSetAttribute) X(cublasLtMatmulPreferenceCreate) X(cublasLtMatmulPreferenceDestroy) \
	X(cublasLtMatmulPreferenceSetAttribute)

#define POINTER(f) static __typeof__(&f) p_##f;
FUNCTIONS(POINTER)

const char *blas_open(void) {
	static void *library;
	if (library)
		return 0;
	const char *names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.12"};
	void *l = 0;
	for (int i = 0; i < 4 && !l; i++)
		l = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (!l)
		return "libcublasLt.so.13 or .so.12 is needed for matrix products, and neither was found";
#define RESOLVE(f) \
	if (!(p_##f = (__typeof__(&f))dlsym(l, #f))) \
		return "libcublasLt lacks " #f;
	FUNCTIONS(RESOLVE)
	library = l;
	return 0;
}

int blas_create(cublasLtHandle_t *h) { return p_cublasLtCreate(h); }
int blas_destroy(cublasLtHandle_t h) { return p_cublasLtDestroy(h); }

#define TRY(call) \
	do { \
		int status = call; \
		if (status) \
			return status; \
	} while (0)

// cuBLAS is column-major: a row-major matrix is its transpose there, so C = A·B becomes Cᵀ = Bᵀ·Aᵀ with the operands swapped.
static int layout(cublasLtMatrixLayout_t *l, int type, int trans, long rows, long cols, long ld, int batch, long stride) {
	TRY(p_cublasLtMatrixLayoutCreate(l, type, trans ? rows : cols, trans ? cols : rows, ld));
	if (batch > 1) {
		int64_t s = stride;
		TRY(p_cublasLtMatrixLayoutSetAttribute(*l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
		TRY(p_cublasLtMatrixLayoutSetAttribute(*l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &s, sizeof s));
	}
	return 0;
}

static int describe(const product *p, product_plan *plan) {
	TRY(p_cublasLtMatmulDescCreate(&plan->op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
	cublasOperation_t ta = p->transB ? CUBLAS_OP_T : CUBLAS_OP_N, tb = p->transA ? CUBLAS_OP_T : CUBLAS_OP_N;
	TRY(p_cublasLtMatmulDescSetAttribute(plan->op, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
	TRY(p_cublasLtMatmulDescSetAttribute(plan->op, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
	if (p->bias) {
		cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
		int64_t stride = p->n;
		TRY(p_cublasLtMatmulDescSetAttribute(plan->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
		if (p->batch > 1)
			TRY(p_cublasLtMatmulDescSetAttribute(plan->op, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, &stride, sizeof stride));
	}
	TRY(layout(&plan->a, p->in, p->transB, p->k, p->n, p->ldb, p->batch, p->strideB));
	TRY(layout(&plan->b, p->in, p->transA, p->m, p->k, p->lda, p->batch, p->strideA));
	return layout(&plan->c, p->out, 0, p->m, p->n, p->ldc, p->batch, p->strideC);
}

int blas_plan(cublasLtHandle_t h, const product *p, product_plan *plan) {
	memset(plan, 0, sizeof *plan);
	TRY(describe(p, plan));
	cublasLtMatmulPreference_t pref;
	TRY(p_cublasLtMatmulPreferenceCreate(&pref));
	p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &p->workspace, sizeof p->workspace);
	p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &p->alignB, sizeof p->alignB);
	p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &p->alignA, sizeof p->alignA);
	p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &p->alignC, sizeof p->alignC);
	p_cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &p->alignC, sizeof p->alignC);
	int status = p_cublasLtMatmulAlgoGetHeuristic(h, plan->op, plan->a, plan->b, plan->c, plan->c, pref, 16, plan->found, &plan->count);
	p_cublasLtMatmulPreferenceDestroy(pref);
	return status;
}

void blas_free(product_plan *plan) {
	if (plan->op)
		p_cublasLtMatmulDescDestroy(plan->op);
	cublasLtMatrixLayout_t layouts[] = {plan->a, plan->b, plan->c};
	for (int i = 0; i < 3; i++)
		if (layouts[i])
			p_cublasLtMatrixLayoutDestroy(layouts[i]);
}

int blas_run(CUcontext context, cublasLtHandle_t h, product_plan *plan, int algorithm, CUdeviceptr a, CUdeviceptr b, CUdeviceptr c,
	CUdeviceptr bias, float alpha, float beta, CUdeviceptr workspace, size_t bytes, CUstream stream) {
	if (cuCtxSetCurrent(context) != CUDA_SUCCESS)
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (bias)
		TRY(p_cublasLtMatmulDescSetAttribute(plan->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
	return p_cublasLtMatmul(h, plan->op, &alpha, (void *)b, plan->a, (void *)a, plan->b, &beta, (void *)c, plan->c, (void *)c, plan->c,
		&plan->found[algorithm].algo, (void *)workspace, bytes, (cudaStream_t)stream);
}
