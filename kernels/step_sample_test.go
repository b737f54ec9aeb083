//go:build gpu

package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"headroom/internal/device"
	"headroom/kernels/ref"
)

var samplings = []struct {
	name string
	ref.StepSampling
}{
	{"greedy", ref.StepSampling{}},
	{"plain", ref.StepSampling{Temperature: 1}},
	{"hot", ref.StepSampling{Temperature: 3}},
	{"cold", ref.StepSampling{Temperature: 0.05}},
	{"top-k", ref.StepSampling{Temperature: 1, TopK: 40}},
	{"top-k 1", ref.StepSampling{Temperature: 1, TopK: 1}},
	{"top-p", ref.StepSampling{Temperature: 1, TopP: 0.9}},
	{"min-p", ref.StepSampling{Temperature: 1.5, MinP: 0.05}},
	{"all", ref.StepSampling{Temperature: 1.2, TopK: 300, TopP: 0.8, MinP: 0.01, Repetition: 1.3}},
	{"penalty alone", ref.StepSampling{Repetition: 2}},
}

// Given equal logits, tokens are those of the reference. A draw may fall on the border of two tokens, where the
// rounding of weights decides: one in a thousand may differ.
func TestStepSample(t *testing.T) {
	const rows = 24
	for _, v := range []int{1, 5, 33, 1000, 50257, 128256} {
		for _, ties := range []bool{false, true} {
			t.Run(fmt.Sprint(v, ties), func(t *testing.T) {
				r, rng := newRig(t), rand.New(rand.NewPCG(23, uint64(v)))
				logits, words := normal(rng, rows*v), (v+31)/32
				for i := range logits {
					logits[i] *= 3
					if ties {
						logits[i] = float32(int(2*logits[i])) / 2
					}
				}
				k := StepSample{Rows: rows, V: v, Logits: r.in(device.F32, logits),
					Choices: r.out(device.U8, rows*int(unsafe.Sizeof(StepSampling{}))),
					Seen:    r.out(device.I32, rows*words), Tokens: r.out(device.I32, rows)}
				wrong, first := 0, ""
				for _, c := range samplings {
					w := ref.StepSample{Rows: rows, V: v, Logits: logits, Seen: make([]uint32, rows*words),
						Tokens: make([]int32, rows)}
					for i := range w.Seen {
						w.Seen[i] = rng.Uint32() & rng.Uint32()
						if i%words == words-1 && v%32 != 0 {
							w.Seen[i] &= 1<<(v%32) - 1
						}
					}
					device.Upload(r.s, k.Seen, w.Seen)
					choices := make([]StepSampling, rows)
					for i := range choices {
						s := c.StepSampling
						s.U = rng.Float64()
						w.Choices = append(w.Choices, s)
						choices[i] = StepSampling{Temperature: s.Temperature, TopP: s.TopP, MinP: s.MinP, Repetition: s.Repetition,
							TopK: s.TopK, U: s.U}
					}
					device.Upload(r.s, k.Choices, unsafe.Slice((*byte)(unsafe.Pointer(&choices[0])), k.Choices.N))
					w.Run()
					k.Launch(r.s)
					got, seen := make([]int32, rows), make([]uint32, rows*words)
					device.Download(r.s, got, k.Tokens)
					device.Download(r.s, seen, k.Seen)
					r.sync()
					for i := range got {
						if got[i] != w.Tokens[i] {
							wrong++
							first = fmt.Sprintf("%s: row %d: token %d, want %d", c.name, i, got[i], w.Tokens[i])
							continue
						}
						for j := range words {
							if seen[i*words+j] != w.Seen[i*words+j] {
								t.Fatalf("%s: row %d: word %d of seen is %x, want %x", c.name, i, j, seen[i*words+j], w.Seen[i*words+j])
							}
						}
					}
				}
				if wrong > 1 {
					t.Errorf("%d of %d tokens differ: %s", wrong, rows*len(samplings), first)
				}
			})
		}
	}
}

func TestStepSampleRefuses(t *testing.T) {
	r := newRig(t)
	k := StepSample{Rows: 1, V: 1 << 20, C: 8, Logits: r.out(device.F32, 64), Tokens: r.out(device.I32, 1)}
	k.Launch(r.s)
	if err := r.s.Sync(); err == nil || !strings.Contains(err.Error(), "a vocabulary of up to") {
		t.Error(err)
	}
}

// TestStepSamplingPack holds the words of a packed StepSampling to where step_sample.cu reads them. It needs no GPU.
func TestStepSamplingPack(t *testing.T) {
	c := StepSampling{Temperature: 1, TopP: 0.5, MinP: 0.25, Repetition: 2, TopK: 7, U: 0.75}
	words := []int32{-1, -1, -1, -1, -1, -1, -1, -1, -1}
	c.Pack(words)
	u := math.Float64bits(0.75)
	want := []int32{0x3f800000, 0x3f000000, 0x3e800000, 0x40000000, 7, 0, int32(uint32(u)), int32(u >> 32), -1}
	if !slices.Equal(words, want) {
		t.Errorf("packed %x, not %x", words, want)
	}
	var back StepSampling
	if back.Unpack(words); back != c {
		t.Errorf("%+v came back of %+v", back, c)
	}
	if seen := PackSeen(65, []int32{0, 31, 64, 31}); !slices.Equal(seen, []int32{-1<<31 | 1, 0, 1}) {
		t.Errorf("seen: %x", seen)
	}
}
