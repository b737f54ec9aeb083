//go:build gpu

package kernels

import "headroom/internal/device"

// A StepPick writes the token of each row's largest logit, the first of equals, to Tokens [Rows] int32, from the Best of a
// StepLogits of the same Rows, C and V; where X is there, X[r] = Table[Tokens[r]], Table [V, C], X [Rows, C].
type StepPick struct {
	Rows, C, V             int
	Best, Tokens, Table, X device.Buffer
}

// stepPickArgs is StepPick in step_sample.cu.
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
		device.Launch(s, "step_pick", device.Grid{X: k.Rows, Block: 256, Overlap: true}, &stepPickArgs{k.Best.Ptr, k.Table.Ptr, k.Tokens.Ptr, k.X.Ptr, int32(blocks), int32(k.C)})
	}
}
