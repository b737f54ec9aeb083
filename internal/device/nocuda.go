//go:build !gpu

package device

// A Device is one GPU. This build has none.
type Device struct{ Name string }

// Open fails: this build has no CUDA.
func Open(ordinal int) (*Device, error) { return nil, ErrBuild }

// Close has nothing to close.
func (*Device) Close() error { return nil }

// NewCommID fails: this build has no CUDA.
func NewCommID() ([]byte, error) { return nil, ErrBuild }

// Count is the GPUs of this machine, as far as this build can see: none.
func Count() int { return 0 }
