// cuBLASLt, opened at run time: only its types come from the header.
#include <cublasLt.h>
#include <cuda.h>
#include <stddef.h>

typedef struct {
	int transA, transB;     // of the row-major operands
	long m, n, k;           // C [m, n] = op(A) [m, k] · op(B) [k, n]
	long lda, ldb, ldc;
	int batch;
	long strideA, strideB, strideC;
	int in, out;            // cudaDataType of A and B, of C
	int bias;               // C += bias [n], n further on for each product of the batch
	unsigned alignA, alignB, alignC;
	size_t workspace;
} product;

typedef struct {
	cublasLtMatmulDesc_t op;
	cublasLtMatrixLayout_t a, b, c;
	cublasLtMatmulHeuristicResult_t found[16];
	int count;
} product_plan;

const char *blas_open(void); // 0, or what is wrong
int blas_create(cublasLtHandle_t *);
int blas_destroy(cublasLtHandle_t);
int blas_plan(cublasLtHandle_t, const product *, product_plan *);
void blas_free(product_plan *);
int blas_run(CUcontext, cublasLtHandle_t, product_plan *, int algorithm, CUdeviceptr a, CUdeviceptr b, CUdeviceptr c, CUdeviceptr bias,
	float alpha, float beta, CUdeviceptr workspace, size_t bytes, CUstream);
