// The kernels of decode_latent_wide.cu on an 8-bit cache, of their own names: what is compiled there stays as it is.
#define FP8_CACHE
#include "decode_latent_wide.cu"
