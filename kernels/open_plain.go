//go:build !gpu

package kernels

import "headroom/internal/device"

// Open fails: this build has no CUDA.
func Open(ordinal int) (*device.Device, error) { return device.Open(ordinal) }
