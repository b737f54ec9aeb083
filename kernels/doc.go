// Package kernels holds the CUDA kernels of training and decoding, each beside the Go struct that launches it. The
// structs are those of kernels/ref with device buffers for slices; Launch puts the kernel on a stream, allocates
// nothing and reports wrong shapes through the stream. Storage is bf16 or float32, by the type of the buffers; every
// sum is float32. All results are deterministic: two runs give the same bits.
//
// Files go by families, each with a page in docs/kernels: attention_* is training attention; decode_* attends to a
// paged cache, decode_latent* by wgmma where it keeps latents; step_* are the fused kernels of a decode step of up to
// 16 rows; classifier* is the loss over logits; rmsnorm, rope, swiglu, geglu, gate, elementwise, embed and colsum are
// bound by bytes alone; adamw is the optimizer.
//
// A kernel takes one struct by value, which is called NameArgs in CUDA and nameArgs in Go; a test reads both and holds
// names, kinds and places of their fields together.
package kernels
