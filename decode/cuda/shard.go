//go:build gpu

package cuda

import (
	"errors"

	"headroom/decode"
	"headroom/internal/device"
	"headroom/internal/graph"
)

// Sharded is the backend of the first GPUs of this machine, which hold shards of every model and sum up over NCCL.
func Sharded(parts int, t graph.DType) (decode.Backend, error) {
	id, err := device.NewCommID()
	if err != nil {
		return nil, err
	}
	var all []decode.Backend
	for rank := range parts {
		one, err := open(rank, t)
		if err != nil {
			return nil, errors.Join(err, decode.Sharded(all...).Close())
		}
		all = append(all, &part{one})
	}
	joined := make(chan error)
	for rank, one := range all {
		go func() { joined <- one.(*part).join(id, rank, parts) }()
	}
	for range parts {
		err = errors.Join(err, <-joined)
	}
	b := decode.Sharded(all...)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// A part is a GPU among several.
type part struct{ *backend }

func (b *part) join(id []byte, rank, ranks int) (err error) {
	b.rank, b.ranks = rank, ranks
	b.comm, err = b.dev.Join(id, rank, ranks)
	return err
}

func (b *part) Close() (err error) {
	if b.comm != nil {
		b.comm.Abort() // leaving together with the others is not needed: no sum is under way
	}
	return b.backend.Close()
}
