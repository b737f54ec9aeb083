// Package cuda decodes on NVIDIA GPUs, in bf16 or float32. A build without the tag gpu has its functions, which say
// that they are not there.
//
// backend.go opens devices, weights.go lays the weights out on the GPU as groups.go finds that products may share a
// launch, memory.go plans a device's memory, batch.go describes a batch to the GPU, pass.go runs it, tensor.go and
// product.go have the model's operations, which wait until their result is needed, attend.go and latent.go attention in
// its three manners, queue.go all that a GPU is asked for, and shard.go several GPUs that hold one model.
//
// Tests put a queue in place of the GPU's that checks every launch and computes it by plain loops: the simulated
// device. So all but the kernels themselves is tested without a GPU.
package cuda
