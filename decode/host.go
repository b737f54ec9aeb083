package decode

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"headroom/internal/graph"
)

// OnCPU is the backend of this machine's processor, in float32.
func OnCPU() Backend { return cpuBackend{} }

type cpuBackend struct{}

func (cpuBackend) Name() string      { return "cpu" }
func (cpuBackend) ElementBytes() int { return 4 }
func (cpuBackend) Chunk() int        { return 256 }
func (cpuBackend) Close() error      { return nil }

func (cpuBackend) Open(m *Model, l Limits) (Device, error) {
	if l.Pages < 1 {
		return nil, fmt.Errorf("decode: the cache pool must have at least one page of %d tokens, it has %d", PageTokens, l.Pages)
	}
	need, free := BytesFor(m.Transformer, l.Pages*PageTokens, 4), graph.HostFree(0)
	if need > int64(free) {
		return nil, fmt.Errorf("decode: the cache of %d tokens takes %.2f GiB (%d bytes), and this machine has %.2f GiB of memory free",
			l.Pages*PageTokens, float64(need)/(1<<30), need, float64(free)/(1<<30))
	}
	return NewCPU(m, l.Pages), nil
}

// Bandwidth is of a copy by all cores.
func (cpuBackend) Bandwidth() (float64, error) {
	const words = 32 << 20
	from, to := make([]float32, words), make([]float32, words)
	for i := range from {
		from[i] = float32(i)
	}
	var best float64
	for range 4 {
		start := time.Now()
		parallel(words, func(lo, hi int) { copy(to[lo:hi], from[lo:hi]) })
		best = max(best, 8*words/time.Since(start).Seconds())
	}
	return best, nil
}

// Available is what the system can give without swapping: the weights are in memory already.
func (cpuBackend) Available(*Model, Limits) (int64, error) {
	if free := graph.HostFree(0); free < math.MaxInt {
		return int64(free), nil
	}
	return 0, nil // another system
}

// Noise gives the whole pool random content.
func (c *CPU) Noise(seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 1))
	var block [4096]float32
	for i := range block {
		block[i] = float32(r.NormFloat64())
	}
	for _, slots := range c.cache {
		for _, s := range slots {
			for at := 0; at < len(s.data); at += len(block) {
				copy(s.data[at:], block[:])
			}
		}
	}
	return nil
}
