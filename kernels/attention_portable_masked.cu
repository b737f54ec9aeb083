// The kernels of attention_portable.cu for attention in a window or within documents, of their own names: what is
// compiled there stays as it is.
#define MASKED true
#define attention_forward_portable attention_forward_masked_portable
#define attention_backward_query_portable attention_backward_query_masked_portable
#define attention_backward_key_portable attention_backward_key_masked_portable
#include "attention_portable.cu"
