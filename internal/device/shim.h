// The calls that gorgonia.org/cu lacks. Each sets its context first, so that the calling goroutine's thread does not matter.
#include <cuda.h>
#include <stddef.h>

typedef struct {
	CUcontext context;
	CUstream stream;
	CUfunction function;
	unsigned grid[3], block, shared, cluster;
	int overlap; // programmatic dependent launch
} launch_config;

int cuda_load(void); // 1: the driver's library is there, 0: it is not
CUresult cuda_init(void);
const char *cuda_error(CUresult);
CUresult launch(const launch_config *, const void *args); // for kernels of one parameter, a struct
CUresult module_functions(CUcontext, CUmodule, CUfunction *, unsigned *n); // at most *n of them, and how many there are
CUresult function_name(CUfunction, const char **);
CUresult argument_size(CUcontext, CUfunction, size_t *);  // of that struct; CUDA_ERROR_NOT_FOUND from drivers that cannot say
CUresult set_shared(CUcontext, CUfunction, int bytes);
CUresult set_room(CUcontext, CUfunction); // as much shared memory as there is, whatever it uses
CUresult host_alloc(CUcontext, size_t bytes, void **p);
CUresult host_free(CUcontext, void *p);
CUresult capture_begin(CUcontext, CUstream);
CUresult capture_end(CUcontext, CUstream, CUgraphExec *);
CUresult graph_launch(CUcontext, CUstream, CUgraphExec);
CUresult graph_free(CUcontext, CUgraphExec);
CUresult reach(CUcontext, CUdevice, CUcontext other, CUdevice peer, int *can); // lets kernels use the other's memory, where they can
