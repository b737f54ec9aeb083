package main

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/model"
)

// TestWeightsThatAreNoNumbers: whatever reads a checkpoint refuses NaN among its weights in one line.
func TestWeightsThatAreNoNumbers(t *testing.T) {
	t.Chdir(t.TempDir())
	tr, err := model.New(model.Config{Layers: 1, Width: 16, MLP: 16, Vocab: 257, Context: 16, NormEps: 1e-5,
		Tie: true, InitStd: 0.02},
		attention.Config{Kind: attention.GQA, Groups: 2, Heads: 2, HeadDim: 8, Bias: "paper", RopeTheta: 10000})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("bad", 0o777); err != nil {
		t.Fatal(err)
	}
	ones := func(name string) ([]float32, error) {
		for _, p := range tr.Params() {
			if p.Name == name {
				return make([]float32, p.Size()), nil
			}
		}
		return nil, os.ErrNotExist
	}
	if err := tr.Write("bad", ones, map[string]string{"tokenizer": "bytes"}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("bad", model.WeightsFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(text[len(text)-4:], math.Float32bits(float32(math.NaN())))
	if err := os.WriteFile(path, text, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("text.txt", []byte(strings.Repeat("pack my box. ", 80)), 0o666); err != nil {
		t.Fatal(err)
	}
	if code, _, logs := headroom("prepare", "--tokenizer", "bytes", "--out", "shards", "text.txt"); code != 0 {
		t.Fatal(logs)
	}
	for _, line := range []string{
		"eval bad --data box=shards", "eval bad --data box=shards --json", "export bad --out hf",
		"export bad --format gguf --out bad.gguf",
		"generate bad --prompt a", "serve bad --addr 127.0.0.1:0", "bench decode --checkpoint bad", "verify export hf bad",
		"train --from bad --set data.train=shards --out run",
	} {
		code, out, logs := headroom(strings.Fields(line)...)
		if code == 0 || out != "" || !strings.Contains(logs, "is not finite: value ") {
			t.Errorf("%s: code %d, out %q, logs %q", line, code, out, logs)
		}
	}
	for _, left := range []string{"hf", "bad.gguf"} {
		if _, err := os.Stat(left); err == nil {
			t.Errorf("%s is there", left)
		}
	}
}
