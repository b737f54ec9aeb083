// Package host decodes on this machine's processor, by the reference kernels, in float32.
package host

import (
	"fmt"
	"math"
	"time"

	"headroom/attention"
	"headroom/decode"
	"headroom/internal/graph"
	"headroom/kernels/ref"
)

// New is the backend of this machine's processor, with caches in float32.
func New() decode.Backend { return backend{attention.FP32} }

type backend struct{ cache attention.CacheType }

func (backend) Name() string      { return "cpu" }
func (backend) ElementBytes() int { return 4 }
func (backend) Chunk() int        { return 256 }
func (backend) Close() error      { return nil }

func (b backend) Cache() attention.CacheType { return b.cache }

func (b backend) Open(m *decode.Model, l decode.Limits) (decode.Device, error) {
	if l.Pages < 1 {
		return nil, fmt.Errorf("decode: the cache pool must have at least one page of %d tokens, it has %d",
			decode.PageTokens, l.Pages)
	}
	need, free := decode.Pool(m.Transformer, l.Pages, l.Tail, b.cache).Bytes, graph.HostFree(0)
	if need > int64(free) {
		return nil,
			fmt.Errorf("decode: the cache of %d tokens takes %.2f GiB (%d bytes), and this machine has %.2f GiB of memory free",
				l.Pages*decode.PageTokens, float64(need)/(1<<30), need, float64(free)/(1<<30))
	}
	return newTailed(m, l.Pages, l.Tail, b.cache), nil
}

// Bandwidth is of a copy by all cores.
func (backend) Bandwidth() (float64, error) {
	const words = 32 << 20
	from, to := make([]float32, words), make([]float32, words)
	for i := range from {
		from[i] = float32(i)
	}
	var best float64
	for range 4 {
		start := time.Now()
		ref.Spans(words, func(lo, hi int) { copy(to[lo:hi], from[lo:hi]) })
		best = max(best, 8*words/time.Since(start).Seconds())
	}
	return best, nil
}

// Available is what the system can give without swapping: the weights are in memory already.
func (backend) Available(*decode.Model, decode.Limits) (int64, error) {
	if free := graph.HostFree(0); free < math.MaxInt {
		return int64(free), nil
	}
	return 0, nil // this system does not say
}
