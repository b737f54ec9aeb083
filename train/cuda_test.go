//go:build gpu

package train

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"headroom/attention"
	"headroom/data"
	"headroom/internal/graph"
	"headroom/model"
)

// gpuRun trains a small model in bf16 on the GPU; its heads are as wide as the GPU's kernels want them.
func gpuRun(t *testing.T, dir, tokens string, c Config) Run {
	t.Helper()
	backend, err := graph.NewCUDA(0, graph.BF16)
	if err != nil {
		if os.Getenv("HEADROOM_GPU_TESTS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	m, err := model.New(
		model.Config{Layers: 2, Width: 64, MLP: 96, Vocab: vocab, Context: 16, NormEps: 1e-5, Tie: true, InitStd: 0.1},
		attention.Config{Kind: attention.GLA, Groups: 2, Heads: 2, HeadDim: 32, RopeDim: 32, Bias: "paper", RopeTheta: 10000})
	if err != nil {
		t.Fatal(err)
	}
	store, err := graph.NewStore(backend, m.Params())
	if err != nil {
		t.Fatal(err)
	}
	set, err := data.Open(tokens, data.OpenOptions{Vocab: vocab})
	if err != nil {
		t.Fatal(err)
	}
	loader, err := data.NewLoader(set, c.Context, c.Seed, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return Run{Dir: dir, Config: c, Model: m, Store: store, Data: loader, Log: slog.New(slog.DiscardHandler)}
}

// TestResumeCUDA: a run that is interrupted, saved and resumed on the GPU ends in the very files of one that was not,
// with activations kept and with blocks run again.
func TestResumeCUDA(t *testing.T) {
	tokens := shard(t, 2000)
	weights := func(dir string) string {
		b, err := os.ReadFile(filepath.Join(dir, checkpoints, stepName(10), "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	c := tinyConfig()
	c.Precision, c.Device, c.Accumulate = "bf16", "cuda", 2
	whole := t.TempDir()
	train(t, gpuRun(t, whole, tokens, c))

	cut := t.TempDir()
	first := gpuRun(t, cut, tokens, c)
	ctx, stop := context.WithCancel(context.Background())
	first.Data = &hooked{Source: first.Data, before: func(n int) {
		if n == 12 {
			stop()
		}
	}}
	sum, err := first.Train(ctx)
	if err != nil || !sum.Interrupted {
		t.Fatal(sum, err)
	}
	second := gpuRun(t, cut, tokens, c)
	second.Resume = true
	if sum := train(t, second); sum.Step != 10 {
		t.Fatal(sum)
	}
	if weights(whole) != weights(cut) {
		t.Error("the resumed run has other weights")
	}

	again := t.TempDir()
	c.Recompute = true
	train(t, gpuRun(t, again, tokens, c))
	if weights(whole) != weights(again) {
		t.Error("running blocks again changes the weights")
	}
}
