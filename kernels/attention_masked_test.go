//go:build gpu

package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"headroom/internal/device"
)

// hopperShapes has each of Hopper's widths, tied and not, and groups of several heads.
var hopperShapes = []attentionShape{
	{4, 2, 64, 0, 64, 128, 64}, {4, 1, 32, 32, 64, 64, 0}, {2, 2, 64, 32, 64, 128, 64}, {2, 1, 96, 0, 96, 192, 96},
	{2, 1, 48, 48, 96, 96, 0}, {2, 2, 96, 32, 96, 192, 96}, {4, 2, 128, 0, 128, 256, 128}, {2, 1, 64, 64, 128, 128, 0},
	{2, 2, 128, 64, 128, 256, 128},
}

// ragged are documents of lengths drawn between 1 and most, one row's unlike another's. A row begins within one.
func ragged(rng *rand.Rand, B, T, most int) (starts []int32) {
	for range B {
		for at := 0; at < T; {
			n := min(1+rng.IntN(most), T-at)
			for range n {
				starts = append(starts, int32(at))
			}
			at += n
		}
	}
	return starts
}

// TestAttentionRagged is TestAttention over many tiles, with no length that is a multiple of a tile: documents of drawn
// lengths, some a token long, others over several tiles; windows beside them; and documents that begin where tiles do.
func TestAttentionRagged(t *testing.T) {
	const B = 2
	edges := make([]int32, B*449)
	for i := range edges {
		for _, start := range []int{64, 128, 191, 193, 384} {
			if i%449 >= start {
				edges[i] = int32(start)
			}
		}
	}
	for i, d := range hopperShapes {
		rng := rand.New(rand.NewPCG(28, uint64(i)))
		for _, c := range []struct {
			name      string
			T, window int
			starts    []int32
		}{
			{"documents up to 300", 709, 0, ragged(rng, B, 709, 300)},
			{"documents up to 20", 333, 0, ragged(rng, B, 333, 20)},
			{"documents up to 500 in a window of 150", 642, 150, ragged(rng, B, 642, 500)},
			{"documents at tiles", 449, 0, edges},
			{"a window of 200", 709, 200, nil},
			{"a window of 320", 577, 320, nil},
		} {
			t.Run(fmt.Sprint(d, c.name), func(t *testing.T) {
				testMasked(t, device.BF16, d, B, c.T, c.window, c.starts)
			})
		}
	}
}

// TestAttentionSkips has NaN in the queries, keys and values of a piece of the sequence that tiles of other queries or
// keys lie behind: what is behind stays as it was to the bit, so that nothing was read there, where a mask alone would
// leave NaN times zero.
func TestAttentionSkips(t *testing.T) {
	const B, T = 2, 1090
	documents := make([]int32, B*T)
	for i := range documents {
		documents[i] = int32(i % T / 330 * 330)
	}
	for _, typ := range types {
		for _, d := range hopperShapes {
			for _, c := range []struct {
				name           string
				window         int
				starts         []int32
				poison, intact [2]int // positions
			}{
				{"window, first keys", 100, nil, [2]int{0, 120}, [2]int{512, T}},
				{"window, last queries", 100, nil, [2]int{900, T}, [2]int{0, 640}},
				{"documents, first keys", 0, documents, [2]int{0, 250}, [2]int{576, T}},
				{"documents, last queries", 0, documents, [2]int{1024, T}, [2]int{0, 896}},
			} {
				t.Run(fmt.Sprint(typ, d, c.name), func(t *testing.T) {
					for _, recompute := range []bool{false, true} {
						r, a := newRig(t), newAttentionData(d, B, T, typ)
						a.window, a.starts = c.window, c.starts
						run := func() (all [][]float32) {
							launch, outs := a.kernels(r, typ, recompute)
							launch(r.s)
							r.sync()
							for _, b := range outs {
								all = append(all, r.read(b))
							}
							return all
						}
						clean := run()
						for _, x := range [][]float32{a.q, a.kv, a.rope, a.dO} {
							row := len(x) / (B * T)
							for i := range x {
								if at := i / max(row, 1) % T; at >= c.poison[0] && at < c.poison[1] {
									x[i] = float32(math.NaN())
								}
							}
						}
						for i, got := range run() {
							r.sameRows(attentionOutputs[i], got, clean[i], i == 1, d, B, T, c.intact)
						}
					}
				})
			}
		}
	}
}

// sameRows compares what belongs to positions from intact[0] to intact[1], bit for bit. Heads come before positions in
// the log-sum-exp alone.
func (r *rig) sameRows(name string, got, want []float32, heads bool, d attentionShape, B, T int, intact [2]int) {
	r.Helper()
	rows, width := B*T, len(want)/(B*T)
	if heads {
		rows, width = B*d.H*T, 1
	}
	for i := range rows {
		if i%T >= intact[0] && i%T < intact[1] {
			for j := i * width; j < (i+1)*width; j++ {
				if math.Float32bits(got[j]) != math.Float32bits(want[j]) {
					r.Fatalf("%s: element %d, of position %d, is %v and was %v without the NaN elsewhere", name, j, i%T, got[j],
						want[j])
				}
			}
		}
	}
}
