package export

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"headroom/internal/safetensors"
	"headroom/model"
)

// indexFile names the shards of a checkpoint that has several.
const indexFile = "model.safetensors.index.json"

// An index says in which file each tensor is.
type index struct {
	Metadata map[string]any    `json:"metadata"`
	Where    map[string]string `json:"weight_map"`
}

// source is a checkpoint's weights.
type source struct{ *model.WeightsReader }

// tensor makes a foreign tensor of our parameters.
func (s source) tensor(t tensor) ([]float32, error) {
	x := make([]float32, t.size())
	at := copy(x, t.values)
	for _, p := range t.parts {
		ours, err := s.Value(p.param.Name)
		if err != nil {
			return nil, err
		}
		p.pack(x[at:], ours)
		at += len(ours)
	}
	if t.less != 0 {
		for i := range x {
			x[i] -= t.less
		}
	}
	return x, nil
}

// writeShards writes tensors to files of at most most bytes, or of one tensor, and an index where there are several.
func writeShards(dir string, from source, tensors []tensor, dtype safetensors.DType, most int64) (
	files int, err error) {
	var shards [][]tensor
	var total, room int64
	for _, t := range tensors {
		n := int64(t.size()) * int64(dtype.Size())
		if total += n; n > room || len(shards) == 0 {
			shards, room = append(shards, nil), most
		}
		room -= n
		last := len(shards) - 1
		shards[last] = append(shards[last], t)
	}
	where := map[string]string{}
	for i, shard := range shards {
		name := "model.safetensors"
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		var out []safetensors.Tensor
		for _, t := range shard {
			where[t.name] = name
			out = append(out, safetensors.Tensor{Name: t.name, DType: dtype, Shape: t.shape, Values: func() ([]float32, error) {
				return from.tensor(t)
			}})
		}
		if err := safetensors.Write(filepath.Join(dir, name), map[string]string{"format": "pt"}, out); err != nil {
			return 0, fmt.Errorf("export: %w", err)
		}
	}
	if len(shards) > 1 {
		err = writeJSON(filepath.Join(dir, indexFile), index{map[string]any{"total_size": total}, where})
	}
	return len(shards), err
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o666)
}
