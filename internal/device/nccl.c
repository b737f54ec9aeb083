//go:build cuda || gpu

#include "nccl.h"
#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

enum { SUCCESS = 0, IN_PROGRESS = 7, UINT8 = 1, UINT32 = 3, FLOAT32 = 7, BFLOAT16 = 9, SUM = 0, TIMEOUT = -1 };

// config is ncclConfig_t up to what 2.18 knew; its size tells the library how far it goes.
typedef struct {
	size_t size;
	unsigned magic, version;
	int blocking, cgaClusterSize, minCTAs, maxCTAs;
	const char *netName;
	int splitShare;
} config;

static int (*getUniqueId)(nccl_id *);
static int (*commInitRankConfig)(nccl_comm *, int size, nccl_id, int rank, config *);
static int (*commGetAsyncError)(nccl_comm, int *);
static int (*commAbort)(nccl_comm);
static int (*commFinalize)(nccl_comm);
static int (*commDestroy)(nccl_comm);
static int (*reduce)(const void *, void *, size_t, int type, int op, int root, nccl_comm, CUstream);
static int (*broadcast)(const void *, void *, size_t, int type, int root, nccl_comm, CUstream);
static int (*allGather)(const void *, void *, size_t, int type, nccl_comm, CUstream);
static int (*allReduce)(const void *, void *, size_t, int type, int op, nccl_comm, CUstream);
static const char *(*getErrorString)(int);
static const char *(*getLastError)(nccl_comm);

const char *nccl_open(void) {
	static void *library;
	if (library)
		return 0;
	void *l = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
	if (!l)
		return "libnccl.so.2 is needed for more than one GPU, and was not found: install NCCL, or put its folder into LD_LIBRARY_PATH";
#define RESOLVE(p, name) \
	if (!(*(void **)&p = dlsym(l, name))) \
		return "libnccl lacks " name ": NCCL 2.18 or newer is needed";
	RESOLVE(getUniqueId, "ncclGetUniqueId")
	RESOLVE(commInitRankConfig, "ncclCommInitRankConfig")
	RESOLVE(commGetAsyncError, "ncclCommGetAsyncError")
	RESOLVE(commAbort, "ncclCommAbort")
	RESOLVE(commFinalize, "ncclCommFinalize")
	RESOLVE(commDestroy, "ncclCommDestroy")
	RESOLVE(reduce, "ncclReduce")
	RESOLVE(broadcast, "ncclBroadcast")
	RESOLVE(allGather, "ncclAllGather")
	RESOLVE(allReduce, "ncclAllReduce")
	RESOLVE(getErrorString, "ncclGetErrorString")
	RESOLVE(getLastError, "ncclGetLastError")
	library = l;
	return 0;
}

// settled waits until what the communicator began on the host is done: it does not block by itself, so that it can be aborted.
static int settled(nccl_comm comm, int r, int seconds) {
	for (long waited = 0; r == IN_PROGRESS; waited++) {
		if (seconds > 0 && waited > seconds * 5000L)
			return TIMEOUT;
		if (waited > 100)
			usleep(200);
		int asked = commGetAsyncError(comm, &r);
		if (asked != SUCCESS)
			return asked;
	}
	return r;
}

int nccl_new_id(nccl_id *id) { return getUniqueId(id); }

int nccl_join(CUcontext context, nccl_comm *comm, const nccl_id *id, int rank, int size, int seconds, int blocking) {
	if (cuCtxSetCurrent(context) != CUDA_SUCCESS)
		return 1;
	config c = {sizeof c, 0xcafebeef, 21805, blocking, INT_MIN, INT_MIN, INT_MIN, 0, INT_MIN};
	int r = commInitRankConfig(comm, size, *id, rank, &c);
	return settled(*comm, r, seconds);
}

#define ENTER \
	if (cuCtxSetCurrent(context) != CUDA_SUCCESS) \
		return 1;

int nccl_reduce(CUcontext context, nccl_comm comm, CUdeviceptr p, size_t n, int root, CUstream s) {
	ENTER
	return settled(comm, reduce((void *)p, (void *)p, n, FLOAT32, SUM, root, comm, s), 0);
}

int nccl_broadcast(CUcontext context, nccl_comm comm, CUdeviceptr to, CUdeviceptr from, size_t bytes, int root, CUstream s) {
	ENTER
	return settled(comm, broadcast((void *)(from ? from : to), (void *)to, bytes, UINT8, root, comm, s), 0);
}

int nccl_all_gather(CUcontext context, nccl_comm comm, CUdeviceptr p, size_t part, int rank, CUstream s) {
	ENTER
	return settled(comm, allGather((void *)(p + rank * part), (void *)p, part, UINT8, comm, s), 0);
}

int nccl_sum(CUcontext context, nccl_comm comm, CUdeviceptr p, size_t n, int size, CUstream s) {
	ENTER
	return settled(comm, allReduce((void *)p, (void *)p, n, size == 0 ? UINT32 : size == 2 ? BFLOAT16 : FLOAT32, SUM, comm, s), 0);
}

int nccl_abort(nccl_comm comm) { return commAbort(comm); }

int nccl_close(nccl_comm comm) {
	int r = settled(comm, commFinalize(comm), 20);
	return r == SUCCESS ? commDestroy(comm) : commAbort(comm);
}

const char *nccl_error(int r, nccl_comm comm) {
	if (r == TIMEOUT)
		return "the other ranks did not join in time";
	const char *last = comm ? getLastError(comm) : 0;
	return last && *last ? last : getErrorString(r);
}
