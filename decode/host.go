package decode

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"
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
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, nil // another system
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemAvailable:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10, nil
		}
	}
	return 0, nil
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
