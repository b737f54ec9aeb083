package train_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"headroom/attention"
	"headroom/data"
	"headroom/internal/graph"
	"headroom/model"
	"headroom/train"
)

// A small model learns a text that repeats itself. The run directory keeps its checkpoints and metrics.
func Example() {
	dir, err := os.MkdirTemp("", "train")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	summary, err := learn(dir, strings.Repeat("the cat sat on the mat. ", 500))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(summary.Step, "steps,", summary.Tokens, "tokens")
	fmt.Println("less than a nat a byte:", summary.Loss < 1)
	fmt.Println(filepath.Base(summary.Checkpoint))
	// Output:
	// 100 steps, 25600 tokens
	// less than a nat a byte: true
	// step-00000100
}

func learn(dir, text string) (s train.Summary, err error) {
	input, shards := filepath.Join(dir, "text.txt"), filepath.Join(dir, "shards")
	if err := os.WriteFile(input, []byte(text), 0o666); err != nil {
		return s, err
	}
	if _, err := data.Prepare(context.Background(), data.Options{Tokenizer: "bytes", Out: shards,
		Inputs: []string{input}}); err != nil {
		return s, err
	}
	tokens, err := data.Open(shards, data.OpenOptions{Vocab: 257})
	if err != nil {
		return s, err
	}

	shape := model.Default()
	shape.Layers, shape.Width, shape.MLP, shape.Context = 1, 32, 64, 32
	m, err := model.New(shape, attention.Config{Kind: attention.GTA, Groups: 2, Heads: 4, HeadDim: 8,
		Bias: "paper", RopeTheta: 10000})
	if err != nil {
		return s, err
	}
	config := train.Default()
	config.Steps, config.LR, config.EvalEvery = 100, 1e-2, 0
	if config, err = config.Resolve(shape.Context, 1); err != nil {
		return s, err
	}
	loader, err := data.NewLoader(tokens, config.Context, config.Seed, 0, 1)
	if err != nil {
		return s, err
	}
	store, err := graph.NewStore(graph.NewCPU(), m.Params())
	if err != nil {
		return s, err
	}
	defer store.Close()
	run := train.Run{Dir: filepath.Join(dir, "run"), Config: config, Model: m, Store: store, Data: loader,
		Log: slog.New(slog.DiscardHandler)}
	return run.Train(context.Background())
}
