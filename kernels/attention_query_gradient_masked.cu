// The kernels of attention_query_gradient.cu for attention in a window or within documents, of names that end in _masked: what
// is compiled there stays as it is.
#define MASKED true
#include "attention_query_gradient.cu"
