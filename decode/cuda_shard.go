//go:build gpu

package decode

import (
	"errors"

	"headroom/internal/device"
	"headroom/internal/graph"
)

// OnCUDAs is the backend of the first GPUs of this machine, which hold shards of every model and sum up over NCCL.
func OnCUDAs(parts int, t graph.DType) (Backend, error) {
	b := &shards{cut: map[*Model][]*Model{}}
	id, err := device.NewCommID()
	if err != nil {
		return nil, err
	}
	for rank := range parts {
		one, err := OnCUDA(rank, t)
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.parts = append(b.parts, &cudaPart{one.(*cudaBackend)})
	}
	joined := make(chan error)
	for rank, part := range b.parts {
		go func() { joined <- part.(*cudaPart).join(id, rank, parts) }()
	}
	for range parts {
		err = errors.Join(err, <-joined)
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// A cudaPart is a GPU among several.
type cudaPart struct{ *cudaBackend }

func (b *cudaPart) join(id []byte, rank, ranks int) (err error) {
	b.rank, b.ranks = rank, ranks
	b.comm, err = b.dev.Join(id, rank, ranks)
	return err
}

func (b *cudaPart) Close() (err error) {
	if b.comm != nil {
		b.comm.Abort() // a leave that waits for the others is not needed: nothing is under way
	}
	return b.cudaBackend.Close()
}
