//go:build gpu

package kernels

import (
	"fmt"
	"unsafe"

	"headroom/internal/device"
)

// A StepPick writes the token of each row's largest logit, the first of equals, to Tokens [Rows] int32, from the Best
// of a StepLogits of the same Rows, C and V; where X is there, X[r] = Table[Tokens[r]], Table [V, C], X [Rows, C].
type StepPick struct {
	Rows, C, V             int
	Best, Tokens, Table, X device.Buffer
}

// stepPickArgs is StepPickArgs in step_sample.cu.
type stepPickArgs struct {
	best, table, tokens, x device.Ptr
	blocks, c              int32
}

// Launch puts the kernel on the stream.
func (k *StepPick) Launch(s *device.Stream) {
	wants := []want{{"Best", k.Best, k.Rows * StepBests, device.F64}, {"Tokens", k.Tokens, k.Rows, device.I32}}
	if !k.X.Nil() {
		wants = append(wants, want{"Table", k.Table, k.V * k.C, device.BF16}, want{"X", k.X, k.Rows * k.C, device.BF16})
	}
	if stepFits(s, "step pick", k.Rows, []int{k.C}, wants...) && k.Rows > 0 {
		blocks := newStepGrid(k.Rows, k.C, ceil(k.V, 16), s.Device().SMs).blocks
		device.Launch(s, "step_pick", device.Grid{X: k.Rows, Block: 256, Overlap: true},
			&stepPickArgs{k.Best.Ptr, k.Table.Ptr, k.Tokens.Ptr, k.X.Ptr, int32(blocks), int32(k.C)})
	}
}

// A StepSampling says how a row's token is drawn, as kernels/ref has it. It is 32 bytes, as the device reads it.
type StepSampling struct {
	Temperature, TopP, MinP, Repetition float32
	TopK, _                             int32
	U                                   float64 // where in the distribution, from [0, 1)
}

// StepSamplingWords is the size of a StepSampling in words of 4 bytes.
const StepSamplingWords = int(unsafe.Sizeof(StepSampling{}) / 4)

// words are the bytes of c, as numbers of 4.
func (c *StepSampling) words() []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(c)), StepSamplingWords)
}

// Pack writes c to the first StepSamplingWords of to, as the device reads it.
func (c StepSampling) Pack(to []int32) { copy(to[:StepSamplingWords], c.words()) }

// Unpack reads what Pack wrote.
func (c *StepSampling) Unpack(from []int32) { copy(c.words(), from[:StepSamplingWords]) }

// SeenWords is how many words of StepSample's Seen a row has, for a vocabulary of V.
func SeenWords(V int) int { return ceil(V, 32) }

// PackSeen is a row of StepSample's Seen: the bits of some tokens.
func PackSeen(V int, tokens []int32) []int32 {
	seen := make([]int32, SeenWords(V))
	for _, t := range tokens {
		seen[t/32] |= 1 << (t % 32)
	}
	return seen
}

// A StepSample draws tokens from Logits [Rows, V] float32 by Choices [Rows] of StepSampling (as bytes): it divides the
// logits of the tokens in Seen [Rows, ceil(V/32)] (int32, a bit a token; or absent) by the repetition penalty, and by
// the temperature, keeps the TopK largest, of them the fewest that make TopP, of them those of at least MinP of the
// largest, and takes the first token, in their order, that exceeds the part U of what is left. A temperature of 0 takes
// the largest. Weights are whole numbers in units of 2^-40 of the largest, so that the result depends on nothing but
// the input. Tokens [Rows] int32 gets the tokens, Seen their bits, and where X is there, X[r] = Table[Tokens[r]]. It
// needs a GPU of compute capability 9.0.
type StepSample struct {
	Rows, C, V                              int
	Logits, Choices, Seen, Tokens, Table, X device.Buffer
}

// stepSampleArgs is StepSampleArgs in step_sample.cu.
type stepSampleArgs struct {
	logits, choices, seen, table, tokens, x device.Ptr
	v, c, share                             int32
}

const (
	sampleBlocks  = 8 // that share a row
	sampleThreads = 512
	sampleStatic  = 25 << 10 // bytes of shared memory that the kernel has besides the logits
)

// StepSampleMost is the largest vocabulary that StepSample takes on a device.
func StepSampleMost(d *device.Device) int { return (d.MaxShare - sampleStatic) / 4 * sampleBlocks }

// Launch puts the kernel on the stream.
func (k *StepSample) Launch(s *device.Stream) {
	wants := []want{
		{"Logits", k.Logits, k.Rows * k.V, device.F32}, {"Choices", k.Choices, 4 * k.Rows * StepSamplingWords, device.U8},
		{"Tokens", k.Tokens, k.Rows, device.I32},
	}
	if !k.Seen.Nil() {
		wants = append(wants, want{"Seen", k.Seen, k.Rows * SeenWords(k.V), device.I32})
	}
	if !k.X.Nil() {
		wants = append(wants, want{"Table", k.Table, k.V * k.C, device.BF16}, want{"X", k.X, k.Rows * k.C, device.BF16})
	}
	share, most := ceil(k.V, sampleBlocks), (s.Device().MaxShare-sampleStatic)/4
	switch {
	case k.Rows < 0 || k.V < 1 || k.C%8 != 0:
		s.Fail(fmt.Errorf("kernels: step sample: rows %d, V %d, C %d: V must be positive and C a multiple of 8",
			k.Rows, k.V, k.C))
	case share > most:
		s.Fail(fmt.Errorf("kernels: step sample: a vocabulary of up to %d is supported, it is %d", most*sampleBlocks, k.V))
	case k.Choices.Ptr%8 != 0 || k.X.Ptr%16 != 0 || k.Table.Ptr%16 != 0:
		s.Fail(fmt.Errorf("kernels: step sample: choices must begin on 8 bytes, table and X on 16: %#x, %#x, %#x",
			k.Choices.Ptr, k.Table.Ptr, k.X.Ptr))
	case fits(s, "step sample", wants...) && k.Rows > 0:
		device.Launch(s, "step_sample", device.Grid{X: k.Rows * sampleBlocks, Block: sampleThreads,
			Shared: 4 * share, Overlap: true}, &stepSampleArgs{
			k.Logits.Ptr, k.Choices.Ptr, k.Seen.Ptr, k.Table.Ptr, k.Tokens.Ptr, k.X.Ptr, int32(k.V), int32(k.C), int32(share),
		})
	}
}
