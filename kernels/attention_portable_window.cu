// The kernels of attention_portable.cu for attention in a window, of their own names: what is compiled there stays as it is.
#define WINDOW true
#define NAME(kernel) kernel##_window_portable
#include "attention_portable.cu"
