package export

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"headroom/data"
	"headroom/internal/safetensors"
	"headroom/model"
)

// Options say how a checkpoint goes out.
type Options struct {
	Dir        string // must not exist, or be empty
	DType      string // fp32 or bf16
	ShardBytes int64  // most bytes of a file of weights
	Tokenizer  string // by name; where it is empty, the export has no tokenizer
	Card       string // README.md
}

// A Report says what was written.
type Report struct {
	Dir       string   `json:"dir"`
	Format    string   `json:"format"`
	Class     Class    `json:"class"`
	Reason    string   `json:"reason,omitempty"` // why it is the project's own class
	DType     string   `json:"dtype"`
	Tensors   int      `json:"tensors"`
	Files     []string `json:"files"`
	Tokenizer string   `json:"tokenizer,omitempty"`
}

// dtypes are the types of a file by the names of flags.
var dtypes = map[string]safetensors.DType{"fp32": safetensors.F32, "bf16": safetensors.BF16}

// HF writes a checkpoint as a directory that the transformers library loads. The directory is there whole or not at
// all.
func HF(checkpoint string, o Options) (r Report, err error) {
	dtype, ok := dtypes[o.DType]
	switch {
	case !ok:
		return r, fmt.Errorf("export: dtype must be fp32 or bf16, not %s", o.DType)
	case o.ShardBytes < 1:
		return r, fmt.Errorf("export: a file of weights must have at least one byte, not %d", o.ShardBytes)
	}
	t, _, err := model.Load(checkpoint)
	if err != nil {
		return r, err
	}
	class, reason := ClassOf(t)
	if class == Own {
		if err := refuseOwn(t.Attention.Kind); err != nil {
			return r, err
		}
	}
	weights, err := t.OpenWeights(checkpoint)
	if err != nil {
		return r, err
	}
	defer weights.Close()
	tensors := class.tensors(t)
	r = Report{Dir: o.Dir, Format: "hf", Class: class, Reason: reason, DType: o.DType, Tensors: len(tensors),
		Tokenizer: o.Tokenizer}
	err = whole(o.Dir, func(dir string) error {
		if _, err := writeShards(dir, source{weights}, tensors, dtype, o.ShardBytes); err != nil {
			return err
		}
		return writeTexts(dir, t, class, o)
	})
	if err != nil {
		return r, err
	}
	entries, err := os.ReadDir(o.Dir)
	for _, e := range entries {
		r.Files = append(r.Files, e.Name())
	}
	return r, err
}

// writeTexts writes everything but the weights.
func writeTexts(dir string, t *model.Transformer, class Class, o Options) error {
	var tokenizer *data.Tokenizer
	if o.Tokenizer != "" {
		var err error
		if tokenizer, err = data.NewTokenizer(o.Tokenizer); err != nil {
			return fmt.Errorf("export: %w", err)
		}
		if most := int(max(tokenizer.EndOfText, tokenizer.Begin)); most >= t.Config.Vocab {
			return fmt.Errorf("export: with tokenizer %s a text begins or ends with token %d, the model has %d", o.Tokenizer,
				most, t.Config.Vocab)
		}
		if err := writeTokenizer(dir, o.Tokenizer, t.Config.Context); err != nil {
			return err
		}
	}
	name := map[string]string{"fp32": "float32", "bf16": "bfloat16"}[o.DType]
	ids := tokenIDs(tokenizer)
	config, err := class.config(t, name, ids)
	if err != nil {
		return err
	}
	err = errors.Join(
		writeJSON(filepath.Join(dir, "config.json"), config),
		writeJSON(filepath.Join(dir, "generation_config.json"), ids),
	)
	if class == Own {
		err = errors.Join(err, copyCode(dir))
	}
	if o.Card != "" {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, "README.md"), []byte(o.Card), 0o666))
	}
	return err
}

// whole calls write to fill a directory under a temporary name, and renames it when it is complete.
func whole(dir string, write func(dir string) error) error {
	dir = filepath.Clean(dir)
	switch entries, err := os.ReadDir(dir); {
	case err == nil && len(entries) > 0:
		return fmt.Errorf("export: %s is there already, and not empty", dir)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("export: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-*")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer os.RemoveAll(tmp) // the directory has been renamed by then, unless a step failed
	if err := errors.Join(os.Chmod(tmp, 0o755), write(tmp)); err != nil {
		return prefixed(err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("export: %w", err)
	}
	return prefixed(os.Rename(tmp, dir))
}

func prefixed(err error) error {
	if err == nil || strings.HasPrefix(err.Error(), "export: ") {
		return err
	}
	return fmt.Errorf("export: %w", err)
}
