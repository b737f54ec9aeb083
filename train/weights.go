package train

import (
	"fmt"
	"path/filepath"

	"headroom/internal/graph"
	"headroom/internal/safetensors"
	"headroom/model"
)

// momentsFile holds AdamW's two moments of each parameter, as m.NAME and v.NAME.
const momentsFile = "state.safetensors"

// saveWeights writes weights and moments to a checkpoint directory, and with the weights what else one must know to use
// them.
func saveWeights(dir string, m *model.Transformer, store *graph.Store, extra map[string]string) error {
	if err := m.Save(dir, store, extra); err != nil {
		return err
	}
	var tensors []safetensors.Tensor
	for _, p := range m.Params() {
		for i, moment := range []string{"m.", "v."} {
			tensors = append(tensors, safetensors.Tensor{
				Name: moment + p.Name, DType: safetensors.F32, Shape: p.Shape,
				Values: func() ([]float32, error) {
					m, v, err := store.Moments(p.Name)
					x := [][]float32{m, v}[i]
					if err == nil {
						err = model.Finite(moment+p.Name, x)
					}
					return x, err
				},
			})
		}
	}
	return safetensors.Write(filepath.Join(dir, momentsFile), nil, tensors)
}

// loadWeights brings weights and moments back.
func loadWeights(dir string, m *model.Transformer, store *graph.Store) error {
	if err := m.LoadValues(dir, store); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	f, err := safetensors.Open(filepath.Join(dir, momentsFile))
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	defer f.Close()
	for _, p := range m.Params() {
		first, _, err := f.Float32("m." + p.Name)
		if err != nil {
			return fmt.Errorf("train: %w", err)
		}
		second, _, err := f.Float32("v." + p.Name)
		if err != nil {
			return fmt.Errorf("train: %w", err)
		}
		if err := store.SetMoments(p.Name, first, second); err != nil {
			return fmt.Errorf("train: %s: %w", dir, err)
		}
	}
	return nil
}
