//go:build cuda || gpu

#include "shim.h"

// A build through cuda.mk links a libcuda.a of trampolines that has this function; a build against the driver's own
// library, already loaded when the program starts, does not.
__attribute__((weak)) int lazy_cuda_load(void);

int cuda_load(void) { return lazy_cuda_load ? lazy_cuda_load() : 1; }

CUresult cuda_init(void) { return cuInit(0); }

const char *cuda_error(CUresult r) {
	const char *s = 0;
	return cuGetErrorString(r, &s) == CUDA_SUCCESS && s ? s : "unknown error";
}

CUresult launch(const launch_config *c, const void *args) {
	CUresult r = cuCtxSetCurrent(c->context);
	if (r != CUDA_SUCCESS)
		return r;
	CUlaunchAttribute attrs[2];
	CUlaunchConfig config = {
		.gridDimX = c->grid[0], .gridDimY = c->grid[1], .gridDimZ = c->grid[2],
		.blockDimX = c->block, .blockDimY = 1, .blockDimZ = 1,
		.sharedMemBytes = c->shared, .hStream = c->stream, .attrs = attrs,
	};
	if (c->cluster > 1) {
		CUlaunchAttribute *a = &attrs[config.numAttrs++];
		a->id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
		a->value.clusterDim.x = c->cluster;
		a->value.clusterDim.y = a->value.clusterDim.z = 1;
	}
	if (c->overlap) {
		CUlaunchAttribute *a = &attrs[config.numAttrs++];
		a->id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
		a->value.programmaticStreamSerializationAllowed = 1;
	}
	void *params[] = {(void *)args};
	return cuLaunchKernelEx(&config, c->function, params, 0);
}

CUresult module_functions(CUcontext context, CUmodule m, CUfunction *f, unsigned *n) {
	unsigned most = *n;
	CUresult r = cuCtxSetCurrent(context);
	if (r == CUDA_SUCCESS)
		r = cuModuleGetFunctionCount(n, m);
	return r != CUDA_SUCCESS ? r : cuModuleEnumerateFunctions(f, *n < most ? *n : most, m);
}

CUresult function_name(CUfunction f, const char **name) { return cuFuncGetName(name, f); }

CUresult argument_size(CUcontext context, CUfunction f, size_t *size) {
	size_t offset;
	CUresult r = cuCtxSetCurrent(context);
	return r != CUDA_SUCCESS ? r : cuFuncGetParamInfo(f, 0, &offset, size);
}

CUresult set_shared(CUcontext context, CUfunction f, int bytes) {
	CUresult r = cuCtxSetCurrent(context);
	return r != CUDA_SUCCESS ? r : cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes);
}

CUresult set_room(CUcontext context, CUfunction f) {
	CUresult r = cuCtxSetCurrent(context);
	return r != CUDA_SUCCESS ? r : cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, CU_SHAREDMEM_CARVEOUT_MAX_SHARED);
}

CUresult host_alloc(CUcontext context, size_t bytes, void **p) {
	CUresult r = cuCtxSetCurrent(context);
	return r != CUDA_SUCCESS ? r : cuMemHostAlloc(p, bytes, CU_MEMHOSTALLOC_PORTABLE);
}

CUresult host_free(CUcontext context, void *p) {
	CUresult r = cuCtxSetCurrent(context);
	return r != CUDA_SUCCESS ? r : cuMemFreeHost(p);
}

CUresult capture_begin(CUcontext context, CUstream s) {
	CUresult r = cuCtxSetCurrent(context);
	return r != CUDA_SUCCESS ? r : cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED);
}

CUresult capture_end(CUcontext context, CUstream s, CUgraphExec *exec) {
	CUgraph graph = 0;
	CUresult r = cuCtxSetCurrent(context);
	if (r == CUDA_SUCCESS)
		r = cuStreamEndCapture(s, &graph);
	if (r == CUDA_SUCCESS)
		r = cuGraphInstantiateWithFlags(exec, graph, 0);
	if (graph)
		cuGraphDestroy(graph);
	return r;
}

CUresult graph_launch(CUcontext context, CUstream s, CUgraphExec exec) {
	CUresult r = cuCtxSetCurrent(context);
	return r != CUDA_SUCCESS ? r : cuGraphLaunch(exec, s);
}

CUresult graph_free(CUcontext context, CUgraphExec exec) {
	CUresult r = cuCtxSetCurrent(context);
	return r != CUDA_SUCCESS ? r : cuGraphExecDestroy(exec);
}

CUresult reach(CUcontext context, CUdevice device, CUcontext other, CUdevice peer, int *can) {
	CUresult r = cuDeviceCanAccessPeer(can, device, peer);
	if (r != CUDA_SUCCESS || !*can)
		return r;
	r = cuCtxSetCurrent(context);
	if (r == CUDA_SUCCESS)
		r = cuCtxEnablePeerAccess(other, 0);
	return r == CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED ? CUDA_SUCCESS : r;
}
