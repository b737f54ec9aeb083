//go:build gpu

package cuda

import (
	"fmt"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/internal/device"
	"headroom/kernels"
	"headroom/model"
)

// withGate gives a model output gates.
func withGate(gate string, width int) func(*model.Config, *attention.Config) {
	return func(_ *model.Config, a *attention.Config) { a.Gate, a.GateWidth = gate, width }
}

// eachGated runs a test on small and wide models of every kind with gates of every form. An odd number of heads has as
// odd a number of gates.
func eachGated(t *testing.T, test func(t *testing.T, what string, m *decode.Model)) {
	small := func(*model.Config, *attention.Config) {}
	odd := func(c *model.Config, a *attention.Config) {
		wide(c, a)
		a.Heads = 6
	}
	for _, d := range attention.Descriptions {
		for i, dims := range []func(*model.Config, *attention.Config){small, wide, odd} {
			gate := []string{attention.HeadGate, attention.ElementGate, attention.HeadGate}[i]
			for _, width := range []int{0, 5} {
				test(t, fmt.Sprintf("%s gated by %s of %d columns", d.Kind, gate, width), decodetest.Tiny(t, d.Name(2), dims,
					withGate(gate, width)))
			}
		}
	}
}

// TestCUDAGate: output gates are those of the forward pass, by pieces and steps.
func TestCUDAGate(t *testing.T) {
	decodesAsForward(t, eachGated)
}

// TestGateKeepsTheStep: with a gate, also of few heads, a step of one token is the launches of one without it, and one
// more a layer, on as many products.
func TestGateKeepsTheStep(t *testing.T) {
	for _, kind := range []string{"gqa-2", "gta-2", "gla-2"} {
		var plain map[string]int
		for _, gate := range []string{attention.NoGate, attention.HeadGate, attention.ElementGate} {
			m := decodetest.Tiny(t, kind, wide, func(_ *model.Config, a *attention.Config) { a.Heads = 6 }, withGate(gate, 0))
			launches := map[string]int{}
			d := openDevice(t, m, simulate(device.BF16), decode.Options{Pages: 3, Rows: 2})
			d.queue.(*simulated).seen = func(k launcher) { launches[fmt.Sprintf("%T", k)]++ }
			var b decode.Batch
			b.Add([]int32{2}, 0, []int32{7}, 1)
			decodetest.Pass(t, d, b)
			gates := fmt.Sprintf("%T", &kernels.DecodeOutputGate{})
			if gate == attention.NoGate {
				if plain = launches; plain[fmt.Sprintf("%T", &kernels.StepAttend{})] != m.Config.Layers {
					t.Errorf("%s does not attend by the kernel of steps: %v", kind, plain)
				}
				continue
			}
			if launches[gates] != m.Config.Layers {
				t.Errorf("%s gated by %s: %d launches of the gate", kind, gate, launches[gates])
			}
			if delete(launches, gates); fmt.Sprint(launches) != fmt.Sprint(plain) {
				t.Errorf("%s gated by %s: %v, without %v", kind, gate, launches, plain)
			}
		}
	}
}
