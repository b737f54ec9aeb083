//go:build gpu

package graph

import "headroom/internal/device"

// cudaGroup is a communicator of NCCL on the backend's stream.
type cudaGroup struct {
	stream *device.Stream
	comm   *device.Comm
}

// Join waits for all ranks of the communicator of that id, which device.NewCommID made.
func (c *CUDA) Join(id []byte, rank, size int) (Group, error) {
	comm, err := c.dev.Join(id, rank, size)
	if err != nil {
		return nil, err
	}
	return &cudaGroup{c.stream, comm}, nil
}

func (g *cudaGroup) Rank() int { return g.comm.Rank }
func (g *cudaGroup) Size() int { return g.comm.Size }

func (g *cudaGroup) ReduceScatter(b Buf) error {
	g.comm.ReduceScatter(g.stream, on(b))
	return g.stream.Err()
}

func (g *cudaGroup) Gather(b Buf) error {
	g.comm.AllGather(g.stream, on(b))
	return g.stream.Err()
}

func (g *cudaGroup) Merge(b Buf) error {
	g.comm.Merge(g.stream, on(b))
	return g.stream.Err()
}

// Abort ends what waits for a lost rank. It may be called from anywhere.
func (g *cudaGroup) Abort() { g.comm.Abort() }

// Close leaves the communicator.
func (g *cudaGroup) Close() error { return g.comm.Close() }
