//go:build gpu

package cuda

import (
	"cmp"
	"errors"
	"fmt"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/kernels"
)

// New is the backend of an NVIDIA GPU, by its number, with weights and values in bf16 or float32, and a cache in the
// same or, beside bf16, in fp8. No type of cache is that of the values.
func New(ordinal int, t graph.DType, cache attention.CacheType) (decode.Backend, error) {
	return open(ordinal, t, cache)
}

func open(ordinal int, t graph.DType, cache attention.CacheType) (*backend, error) {
	if cache != "" && string(cache) != t.String() && (cache != attention.FP8 || t != graph.BF16) {
		return nil, fmt.Errorf("decode: a cache in %s has no kernels beside values in %s on cuda", cache, t)
	}
	dev, err := kernels.Open(ordinal)
	if err != nil {
		return nil, err
	}
	types := map[graph.DType]device.Type{graph.F32: device.F32, graph.BF16: device.BF16}
	b := &backend{dev: dev, t: types[t], cache: cache}
	b.queue, b.free = b.newQueue, dev.FreeMemory
	return b, nil
}

// A backend keeps the weights of the last models on the GPU: devices of one model share them.
type backend struct {
	dev   *device.Device
	queue func(sums bool) (queue, error) // makes a queue, of a device that sums with others or not
	free  func() (int, error)            // bytes
	comm  *device.Comm                   // of the devices that hold shards of one model; rank is this one's place
	rank  int
	ranks int

	reaches bool     // the memory of the other devices
	meeting *meeting // where queues that sum find each other

	t      device.Type
	cache  attention.CacheType // or none: that of t
	loaded []*weights
}

func (b *backend) Name() string      { return b.dev.Name }
func (b *backend) ElementBytes() int { return b.t.Size() }
func (b *backend) Chunk() int        { return 16384 }

func (b *backend) Cache() attention.CacheType {
	own := map[device.Type]attention.CacheType{device.F32: attention.FP32, device.BF16: attention.BF16}[b.t]
	return cmp.Or(b.cache, own)
}

// Bandwidth is of a copy of 2 GiB.
func (b *backend) Bandwidth() (float64, error) {
	const bytes = 2 << 30
	pair, err := b.dev.Alloc(device.U8, 2*bytes)
	if err != nil {
		return 0, err
	}
	defer b.dev.Free(pair)
	stream, err := b.dev.NewStream()
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	var events [5]*device.Event
	for i := range events {
		if events[i], err = b.dev.NewEvent(); err != nil {
			return 0, err
		}
		defer events[i].Close()
		stream.Copy(pair.Slice(0, bytes), pair.Slice(bytes, 2*bytes))
		stream.Record(events[i])
	}
	if err := stream.Sync(); err != nil {
		return 0, err
	}
	var best float64
	for i := 1; i < len(events); i++ {
		took, err := events[i].Since(events[i-1])
		if err != nil {
			return 0, err
		}
		best = max(best, 2*bytes/took.Seconds())
	}
	return best, nil
}

// reserve is the memory that the driver takes for kernels, graphs and cuBLASLt besides the allocations of this package.
const reserve = 512 << 20

// Available loads the weights, and counts what a pass takes beside them.
func (b *backend) Available(m *decode.Model, l decode.Limits) (int64, error) {
	l.Pages, l.Tail = 1, min(1, l.Tail)
	d, err := b.plan(m, l)
	if err != nil {
		return 0, err
	}
	free, err := b.free()
	return max(0, int64(free-d.passBytes()-reserve)), err
}

func (b *backend) Open(m *decode.Model, l decode.Limits) (decode.Device, error) {
	if l.Pages < 1 {
		return nil, fmt.Errorf("decode: the cache pool must have at least one page of %d tokens, it has %d",
			decode.PageTokens, l.Pages)
	}
	d, err := b.plan(m, l)
	if err != nil {
		return nil, err
	}
	if err := d.allocate(b.queue); err != nil {
		return nil, errors.Join(fmt.Errorf("decode: a pool of %d pages: %w", l.Pages, err), d.Close())
	}
	return d, nil
}

func (b *backend) Close() (err error) {
	for _, w := range b.loaded {
		err = errors.Join(err, w.queue.close())
	}
	return errors.Join(err, b.dev.Close())
}
