// NCCL, opened at run time. The few types it takes are declared here; they are those of NCCL 2.18 and later.
#include <cuda.h>
#include <stddef.h>

typedef struct ncclComm *nccl_comm;
typedef struct { char bytes[128]; } nccl_id;

const char *nccl_open(void); // 0, or what is wrong
int nccl_new_id(nccl_id *);
int nccl_join(CUcontext, nccl_comm *, const nccl_id *, int rank, int size, int seconds, int blocking); // waits for the others
int nccl_reduce(CUcontext, nccl_comm, CUdeviceptr, size_t n, int root, CUstream); // float32, in place on root
int nccl_broadcast(CUcontext, nccl_comm, CUdeviceptr to, CUdeviceptr from, size_t bytes, int root, CUstream); // from is read on root alone
int nccl_all_gather(CUcontext, nccl_comm, CUdeviceptr, size_t part, int rank, CUstream);     // bytes in place
int nccl_sum(CUcontext, nccl_comm, CUdeviceptr, size_t n, int size, CUstream); // in place; float32 (size 4), bf16 (2), or uint32 (0)
int nccl_abort(nccl_comm);
int nccl_close(nccl_comm);
const char *nccl_error(int, nccl_comm); // the comm, if there is one, knows more
