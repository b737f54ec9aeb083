//go:build !gpu

package graph

import "headroom/internal/device"

// NewCUDA opens a GPU as a backend that stores activations in the given type. This build has no CUDA: it says so.
func NewCUDA(ordinal int, activation DType) (Backend, error) { return nil, device.ErrBuild }
