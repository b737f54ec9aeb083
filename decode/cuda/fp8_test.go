//go:build gpu

package cuda

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/decodetest"
	"headroom/decode/host"
	"headroom/internal/device"
	"headroom/internal/graph"
	"headroom/model"
)

// simulateFP8 is a simulated backend whose cache is in fp8, with rope keys that are rounded as the CPU's are.
func simulateFP8() *backend {
	b := simulate(device.BF16)
	b.cache = attention.FP8
	open := b.queue
	b.queue = func(sums bool) (queue, error) {
		q, err := open(sums)
		q.(*simulated).halves = true
		return q, err
	}
	return b
}

// onGPUWithFP8 opens a GPU with such a cache.
func onGPUWithFP8(t *testing.T) decode.Backend {
	t.Helper()
	b, err := New(0, graph.BF16, attention.FP8)
	if err != nil && os.Getenv("HEADROOM_GPU_TESTS") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// fp8Kinds are kinds with the dims that the fast kernels take, and small ones that the plain kernel takes.
var fp8Kinds = []func(*model.Config, *attention.Config){wide, func(*model.Config, *attention.Config) {}}

// scored is what a backend gives for texts as prompts, whole or in chunks that read what those before them left.
func scored(t *testing.T, m *decode.Model, on decode.Backend, chunk int) (scores []decode.Score) {
	t.Helper()
	e, err := decode.Open(m, on, decode.Options{Pages: 24, Rows: 4, Chunk: chunk, Scored: chunk})
	if err != nil {
		t.Fatal(err)
	}
	var all []*decode.Sequence
	for _, x := range decodetest.Texts(m) {
		all = append(all, decodetest.Submit(t, e, decode.Request{Prompt: x, Score: true, Echo: true}))
	}
	decodetest.Finish(t, e)
	for _, s := range all {
		scores = append(scores, s.Scores...)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	return scores
}

// apart is the mean distance of two scores of each token.
func apart(t *testing.T, a, b []decode.Score) (mean float64) {
	t.Helper()
	if len(a) != len(b) || len(a) == 0 {
		t.Fatalf("%d scores and %d", len(a), len(b))
	}
	for i := range a {
		mean += math.Abs(float64(a[i].LogProb-b[i].LogProb)) / float64(len(a))
	}
	return mean
}

// TestCUDAFP8IsTheCPUs scores texts through a cache in fp8 on a simulated device, where numbers lose nothing else, and
// on the CPU: sums in another order put single elements on the other side of a midpoint and no more.
func TestCUDAFP8IsTheCPUs(t *testing.T) {
	for _, kind := range decodetest.Kinds {
		for _, dims := range fp8Kinds {
			m := decodetest.Tiny(t, kind, dims)
			if kind == "tpa" {
				continue // refused below
			}
			want := scored(t, m, host.Sharded(1, attention.FP8), 40)
			rounding := apart(t, want, scored(t, m, host.Sharded(1, attention.FP32), 40))
			if got := apart(t, scored(t, m, simulateFP8(), 40), want); !(got < rounding/20) || rounding < 1e-4 {
				t.Errorf("%s: scores are %g apart from the CPU's, those from float32's %g", kind, got, rounding)
			}
		}
	}
}

// TestCUDAFP8OnGPU allows scores what values in bf16 cost beside what the cache does.
func TestCUDAFP8OnGPU(t *testing.T) {
	on := onGPUWithFP8(t)
	half := onGPU(t, graph.BF16)
	for _, kind := range decodetest.Kinds {
		m := decodetest.Tiny(t, kind, wide)
		if kind == "tpa" {
			continue
		}
		exact := scored(t, m, host.Sharded(1, attention.FP32), 40)
		small := apart(t, scored(t, m, host.Sharded(1, attention.FP8), 40), exact)
		halves := apart(t, scored(t, m, half, 40), exact)
		if got := apart(t, scored(t, m, on, 40), exact); !(got < 1.5*(small+halves)) {
			t.Errorf("%s: scores are %g apart from float32's, in bf16 %g, in fp8 on the CPU %g", kind, got, halves, small)
		}
	}
}

// TestCUDAFP8Engine serves requests that come and go, with guesses too, and holds greedy text against the CPU's up to a
// place where two tokens are all but equally likely.
func TestCUDAFP8Engine(t *testing.T) {
	for _, kind := range []string{"gqa-2", "gta-2", "mla", "gla-2"} {
		m := decodetest.Tiny(t, kind, wide)
		o := decode.Options{Pages: 12, Rows: 3, Chunk: 40}
		onCPU, err := decode.Open(m, host.Sharded(1, attention.FP8), o)
		if err != nil {
			t.Fatal(err)
		}
		there, err := decode.Open(m, simulateFP8(), o)
		if err != nil {
			t.Fatal(err)
		}
		var got, want []*decode.Sequence
		for i, x := range decodetest.Texts(m) {
			q := decode.Request{Prompt: x, MaxTokens: 5 + i, Score: true, Top: 2}
			want, got = append(want, decodetest.Submit(t, onCPU, q)), append(got, decodetest.Submit(t, there, q))
		}
		decodetest.Finish(t, onCPU)
		decodetest.Finish(t, there)
		for i := range want {
			a, b := got[i].Output(), want[i].Output()
			for j := range b {
				if j < len(a) && a[j] == b[j] {
					continue
				}
				if top := want[i].Scores[j].Top; j >= len(a) || top[0].LogProb-top[1].LogProb > 1e-2 {
					t.Errorf("%s: %v, on the CPU %v", kind, a, b)
				}
				break
			}
		}
		if err := there.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestCUDAFP8Windows: layers with windows have their own pages and the plain kernel.
func TestCUDAFP8Windows(t *testing.T) {
	m := decodetest.Tiny(t, "gqa-2", wide, func(_ *model.Config, a *attention.Config) { a.Window = 20 })
	want := scored(t, m, host.Sharded(1, attention.FP8), 40)
	rounding := apart(t, want, scored(t, m, host.Sharded(1, attention.FP32), 40))
	if got := apart(t, scored(t, m, simulateFP8(), 40), want); !(got < rounding/20) {
		t.Errorf("scores are %g apart from the CPU's, those from float32's %g", got, rounding)
	}
}

// TestCUDAFP8Bytes: the pool takes what the layout says.
func TestCUDAFP8Bytes(t *testing.T) {
	for _, kind := range []string{"gqa-2", "gta-2", "mla", "gla-2"} {
		m := decodetest.Tiny(t, kind, wide)
		d := openDevice(t, m, simulateFP8(), decode.Options{Pages: 3, Rows: 2})
		if got, want := d.CacheBytes(), decode.Pool(m.Transformer, 3, 0, attention.FP8).Bytes; got != want {
			t.Errorf("%s: %d bytes, the layout has %d", kind, got, want)
		}
	}
}

// TestCUDAFP8Refuses names what has no kernels.
func TestCUDAFP8Refuses(t *testing.T) {
	if slices.Contains(decodetest.Kinds, "tpa") {
		m := decodetest.Tiny(t, "tpa", wide)
		_, err := decode.Open(m, simulateFP8(), decode.Options{Pages: 3, Rows: 2})
		if err == nil || !strings.Contains(err.Error(), "fp8") {
			t.Errorf("tpa: %v", err)
		}
	}
	if _, err := open(0, graph.F32, attention.FP8); err == nil || !strings.Contains(err.Error(), "beside values in fp32") {
		t.Errorf("fp32: %v", err)
	}
}
