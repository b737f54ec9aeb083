//go:build !gpu

package cuda

import (
	"headroom/attention"
	"headroom/decode"
	"headroom/internal/device"
	"headroom/internal/graph"
)

// New is the backend of an NVIDIA GPU; this build has none.
func New(int, graph.DType, attention.CacheType) (decode.Backend, error) { return nil, device.ErrBuild }

// Sharded is the backend of several; this build has none.
func Sharded(int, graph.DType, attention.CacheType) (decode.Backend, error) {
	return nil, device.ErrBuild
}
