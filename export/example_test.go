package export_test

import (
	"fmt"
	"os"
	"path/filepath"

	"headroom/attention"
	"headroom/decode"
	"headroom/export"
	"headroom/model"
)

// A checkpoint goes out as a directory that the transformers library loads, and comes back as a checkpoint.
func Example() {
	dir, err := os.MkdirTemp("", "export")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	gqa := attention.Default()
	gqa.Groups = 2
	m, err := model.New(model.Default(), gqa)
	if err != nil {
		fmt.Println(err)
		return
	}
	weights := decode.Random(m, 1).Weights
	checkpoint, exported := filepath.Join(dir, "checkpoint"), filepath.Join(dir, "hf")
	if err := os.Mkdir(checkpoint, 0o755); err != nil {
		fmt.Println(err)
		return
	}
	if err := m.Write(checkpoint, func(name string) ([]float32, error) { return weights[name], nil }, nil); err != nil {
		fmt.Println(err)
		return
	}

	report, err := export.HF(checkpoint, export.Options{Dir: exported, DType: "fp32", ShardBytes: 1 << 30})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(report.Class, report.DType, report.Tensors)

	back, err := export.Read(exported, filepath.Join(dir, "back"), 0)
	fmt.Println(back.Class, back.Attention, err)
	// Output:
	// LlamaForCausalLM fp32 38
	// LlamaForCausalLM gqa-2 <nil>
}
