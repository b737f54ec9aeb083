//go:build !cuda && !gpu

package device

// A Device is one GPU. This build has none.
type Device struct{}

// Open fails: this build has no CUDA.
func Open(ordinal int) (*Device, error) { return nil, ErrBuild }
