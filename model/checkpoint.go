package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/go-viper/mapstructure/v2"

	"headroom/attention"
	"headroom/internal/graph"
	"headroom/internal/safetensors"
)

// WeightsFile is the file of a checkpoint directory that holds the weights, and the configuration with them.
const WeightsFile = "model.safetensors"

// metadata is the configuration in the file's metadata: one JSON value with the keys of a run's YAML.
type metadata struct {
	Model     Config            `mapstructure:"model"`
	Attention attention.Config  `mapstructure:"attention"`
	Extra     map[string]string `mapstructure:"extra"`
}

func (m metadata) encode() (string, error) {
	var tree map[string]any
	if err := mapstructure.Decode(m, &tree); err != nil {
		return "", err
	}
	b, err := json.Marshal(tree)
	return string(b), err
}

func decodeMetadata(text string) (m metadata, err error) {
	var tree map[string]any
	if err := json.Unmarshal([]byte(text), &tree); err != nil {
		return m, err
	}
	err = mapstructure.Decode(tree, &m)
	if d, unknown := m.Attention.Kind.Describe(); unknown == nil && d.Split && m.Attention.QueryNorm == "" {
		// an older version had one form only
		m.Attention.QueryNorm = attention.WholeNorm
	}
	return m, err
}

// Save writes the values of a store to dir, in float32, whole or not at all. Extra says more about them: the
// tokenizer, say.
func (t *Transformer) Save(dir string, store *graph.Store, extra map[string]string) error {
	return t.Write(dir, store.Value, extra)
}

// Write is Save of values from anywhere, by the names of the parameters.
func (t *Transformer) Write(dir string, value func(name string) ([]float32, error), extra map[string]string) error {
	if !t.Uniform() {
		return errors.New("model: a checkpoint says one attention for all layers, and the layers of this model differ")
	}
	config, err := metadata{t.Config, t.Attention.Resolve(), extra}.encode()
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	var tensors []safetensors.Tensor
	for _, p := range t.Params() {
		tensors = append(tensors, safetensors.Tensor{
			Name: p.Name, DType: safetensors.F32, Shape: p.Shape,
			Values: func() ([]float32, error) {
				x, err := value(p.Name)
				if err == nil {
					err = Finite(p.Name, x)
				}
				return x, err
			},
		})
	}
	return safetensors.Write(filepath.Join(dir, WeightsFile), map[string]string{"format": "pt", "headroom": config},
		tensors)
}

// NotFinite says that a tensor has a NaN or an infinite value, which training that diverged leaves, or damage to a
// file.
type NotFinite struct {
	Tensor    string
	At, Count int
	Value     float32
}

func (n *NotFinite) Error() string {
	return fmt.Sprintf("tensor %s is not finite: value %d of %d is %v", n.Tensor, n.At, n.Count, n.Value)
}

// Finite is a NotFinite where a value of a tensor is not finite.
func Finite(name string, x []float32) error {
	for i, v := range x {
		if v-v != 0 { // NaN or infinite
			return &NotFinite{name, i, len(x), v}
		}
	}
	return nil
}

// Load reads the model of a checkpoint directory, without its values, and the extra values that Save wrote.
func Load(dir string) (*Transformer, map[string]string, error) {
	f, err := safetensors.Open(filepath.Join(dir, WeightsFile))
	if err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	defer f.Close()
	m, err := decodeMetadata(f.Metadata["headroom"])
	if err != nil {
		return nil, nil, fmt.Errorf("model: %s says nothing of its configuration; was it written by another program?",
			filepath.Join(dir, WeightsFile))
	}
	t, err := New(m.Model, m.Attention)
	return t, m.Extra, err
}

// A WeightsReader reads the weights of a checkpoint directory, one parameter at a time.
type WeightsReader struct {
	file *safetensors.File
	path string
}

// OpenWeights opens the weights of a checkpoint directory. Every parameter must be there in its shape, and nothing
// else. Close the reader when all are read.
func (t *Transformer) OpenWeights(dir string) (*WeightsReader, error) {
	path := filepath.Join(dir, WeightsFile)
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if err := t.matches(dir, f); err != nil {
		f.Close()
		return nil, err
	}
	return &WeightsReader{f, path}, nil
}

// matches is an error where the tensors of a file are not this model's.
func (t *Transformer) matches(dir string, f *safetensors.File) error {
	known := map[string]bool{}
	for _, p := range t.Params() {
		known[p.Name] = true
		info, ok := f.Tensors[p.Name]
		if !ok {
			return fmt.Errorf("model: %s has no tensor %s", dir, p.Name)
		}
		if !slices.Equal(info.Shape, p.Shape) {
			return fmt.Errorf("model: %s: tensor %s is %v, this model's is %v", dir, p.Name, info.Shape, p.Shape)
		}
	}
	for _, name := range f.Names() {
		if !known[name] {
			return fmt.Errorf("model: %s has a tensor %s that this model does not have", dir, name)
		}
	}
	return nil
}

// Value reads a parameter. The slice is the caller's.
func (r *WeightsReader) Value(name string) ([]float32, error) {
	x, _, err := r.file.Float32(name)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if err := Finite(name, x); err != nil {
		return nil, fmt.Errorf("model: %s: %w; use a checkpoint from before training diverged", r.path, err)
	}
	return x, nil
}

// Close closes the file.
func (r *WeightsReader) Close() error { return r.file.Close() }

// LoadValues gives a store the weights of a checkpoint directory, which OpenWeights must find to be this model's before
// any is changed.
func (t *Transformer) LoadValues(dir string, store *graph.Store) error {
	r, err := t.OpenWeights(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	for _, p := range t.Params() {
		x, err := r.Value(p.Name)
		if err != nil {
			return err
		}
		if err := store.Set(p.Name, x); err != nil {
			return fmt.Errorf("model: %w", err)
		}
	}
	return nil
}
