// The kernels of attention_fp32.cu for attention in a window, of their own names: what is compiled there stays as it is.
#define WINDOW true
#define NAME(kernel) kernel##_window_f32
#include "attention_fp32.cu"
