//go:build !gpu

package decode

import (
	"headroom/internal/device"
	"headroom/internal/graph"
)

// OnCUDA is the backend of an NVIDIA GPU; this build has none.
func OnCUDA(int, graph.DType) (Backend, error) { return nil, device.ErrBuild }

// OnCUDAs is the backend of several; this build has none.
func OnCUDAs(int, graph.DType) (Backend, error) { return nil, device.ErrBuild }
