// The kernels of decode_mma.cu on an 8-bit cache, of their own names: what is compiled there stays as it is.
#define FP8_CACHE
#include "decode_mma.cu"
