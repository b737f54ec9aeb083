// Package ref holds the CPU kernels: the training backend without a GPU and the reference of every CUDA kernel.
//
// A kernel is a struct whose fields are its arguments; the doc comment is its equation and Run executes it on all
// cores. Everything is float32 and row-major. Scratch memory is taken at the first Run; after that no Run allocates.
// Results repeat bit for bit and do not depend on the number of cores: work is cut into ranges by shape alone, every
// output word has one owner, and partial sums are folded in a fixed order.
package ref
