//go:build gpu

package cuda

import (
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/internal/device"
	"headroom/kernels"
	"headroom/model"
)

// withNorm gives a model norms of queries and keys.
func withNorm(norm string) func(*model.Config, *attention.Config) {
	return func(_ *model.Config, a *attention.Config) { a.QKNorm = norm }
}

// eachNormed runs a test on small and wide models of each kind that can norm queries and keys.
func eachNormed(t *testing.T, test func(t *testing.T, what string, m *decode.Model)) {
	small := func(*model.Config, *attention.Config) {}
	for _, kind := range []string{"mha", "gqa-2", "mqa", "mfa"} {
		for _, norm := range []string{attention.HeadNorm, attention.AllNorm} {
			for _, dims := range []func(*model.Config, *attention.Config){small, wide} {
				test(t, kind+" with qk_norm "+norm, decodetest.Tiny(t, kind, dims, withNorm(norm)))
			}
		}
	}
}

// TestCUDAQKNorm: norms of queries and keys before their rotation are those of the forward pass, by pieces and steps.
func TestCUDAQKNorm(t *testing.T) {
	decodesAsForward(t, eachNormed)
}

// TestQKNormKeepsTheStep: a step of one token attends by the kernel of steps, on keys that are normed before it.
func TestQKNormKeepsTheStep(t *testing.T) {
	for _, norm := range []string{attention.NoNorm, attention.HeadNorm, attention.AllNorm} {
		m := decodetest.Tiny(t, "gqa-2", wide, withNorm(norm))
		steps, norms := 0, 0
		seen := func(k launcher) {
			switch k := k.(type) {
			case *kernels.StepAttend:
				steps++
				if !k.Norm.Nil() {
					t.Errorf("qk_norm %s: the kernel of steps norms keys, which it rotates", norm)
				}
			case *kernels.DecodeNorm:
				norms++
			}
		}
		d := openDevice(t, m, simulate(device.BF16), decode.Options{Pages: 3, Rows: 2})
		d.queue.(*simulated).seen = seen
		var b decode.Batch
		b.Add([]int32{2}, 0, []int32{7}, 1)
		decodetest.Pass(t, d, b)
		want := 0
		if norm != attention.NoNorm {
			want = 2 * m.Config.Layers
		}
		if steps != m.Config.Layers || norms != want {
			t.Errorf("qk_norm %s: %d launches of the kernel of steps and %d of norms, want %d and %d", norm, steps, norms,
				m.Config.Layers, want)
		}
	}
}
