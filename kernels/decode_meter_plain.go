//go:build !gpu

package kernels

import "headroom/internal/device"

// A DecodeMeter measures decode attention on a GPU, which this build does not support.
type DecodeMeter struct{ CopyGBs, ProductTFLOP float64 }

// NewDecodeMeter fails: this build has no CUDA.
func NewDecodeMeter(*device.Device) (*DecodeMeter, error) { return nil, device.ErrBuild }

// Measure fails: this build has no CUDA.
func (m *DecodeMeter) Measure(DecodeProblem) (DecodeTime, error) {
	return DecodeTime{}, device.ErrBuild
}

// Close does nothing.
func (m *DecodeMeter) Close() error { return nil }
