// The kernels of attention_fp32.cu for attention in a window or within documents, of their own names: what is
// compiled there stays as it is.
#define MASKED true
#define attention_forward_f32 attention_forward_masked_f32
#define attention_backward_query_f32 attention_backward_query_masked_f32
#define attention_backward_key_f32 attention_backward_key_masked_f32
#include "attention_fp32.cu"
