// Package graph is the only package that uses gorgonia: a Builder writes a model's forward pass into an expression
// graph of our own ops, gorgonia.Grad differentiates it through their symbolic gradients, and our executor runs it.
//
// The executor lowers the nodes, in the order in which they were made, to a flat list of instructions; plans their
// buffers by liveness into one arena; lets a kernel add into the buffer of a sum instead of summing afterwards, and
// write a gradient straight into the store's flat buffer; and has a Backend compile each instruction to a kernel call.
// After that no gorgonia type is touched, so that the list can be captured and replayed by a device.
//
// Where several ranks train one model (Group), sums and gathers are instructions as well, which run beside those that
// follow.
//
// The graph is float32 throughout. What is stored in fewer bits is the backend's policy (Backend.Activation).
//
// The letters of shapes: B batch, T new tokens, S tokens attended, V vocabulary, C model width, F MLP width, H query
// heads, G key/value or latent heads, D head dim, R its rotary part, L latent dim.
package graph
