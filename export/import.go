package export

import (
	"fmt"
	"path/filepath"
	"strings"

	"headroom/model"
)

// An Import says what was read.
type Import struct {
	Dir        string `json:"dir"`
	Class      Class  `json:"class"`
	Attention  string `json:"attention"`
	Parameters int64  `json:"parameters"`
	Context    int    `json:"context"`
	Tokenizer  string `json:"tokenizer,omitempty"` // the name of ours, or the path of the file beside the weights

	Unknown []string `json:"unknown,omitempty"` // keys of config.json of which nobody here knows what they change

	Begin string   `json:"begin,omitempty"` // what a text begins with
	Ends  []string `json:"ends,omitempty"`  // the tokens that end one
}

// Read makes a checkpoint of ours in out from a directory of the transformers library: the Llama family, dense Qwen3
// and DeepSeek-V3, or what HF wrote. A context of 0 is the directory's own. What the models here cannot express is
// refused by its name.
func Read(dir, out string, context int) (r Import, err error) {
	f, t, list, class, err := openModel(dir, context)
	if err != nil {
		return r, err
	}
	defer f.Close()
	var config map[string]any
	if err := f.json("config.json", &config); err != nil {
		return r, err
	}
	r = Import{Dir: out, Class: class, Attention: t.Attention.Name(), Parameters: t.Count().Parameters,
		Context: t.Config.Context, Unknown: unknown(class, config)}
	extra := map[string]string{}
	r.Tokenizer = f.tokenizer()
	err = whole(out, func(to string) error {
		if r.Tokenizer == tokenizerFile {
			ok, err := f.copyTokenizer(to)
			if err != nil {
				return err
			}
			if r.Tokenizer = ""; ok {
				r.Tokenizer = filepath.Join(out, tokenizerFile)
			}
		}
		if r.Tokenizer != "" {
			extra["tokenizer"] = r.Tokenizer
		}
		return t.Write(to, f.values(list), extra)
	})
	if err == nil && r.Tokenizer != "" {
		err = r.name()
	}
	return r, err
}

// openModel opens a directory, and checks its tensors against its configuration.
func openModel(dir string, context int) (f *folder, t *model.Transformer, list []tensor, class Class, err error) {
	opened, err := openFolder(dir)
	if err != nil {
		return nil, nil, nil, "", err
	}
	f = opened
	defer func() {
		if err != nil {
			opened.Close()
		}
	}()
	var c foreign
	if err = f.json("config.json", &c); err != nil {
		return nil, nil, nil, "", err
	}
	class, m, a, err := c.model()
	if err == nil && class == Own {
		err = f.allKnown()
	}
	if err != nil {
		return nil, nil, nil, "", fmt.Errorf("export: %s: %w", dir, err)
	}
	switch {
	case context < 0 || context > m.Context:
		return nil, nil, nil, "", fmt.Errorf("export: context must be at most the %d of %s, not %d", m.Context, dir, context)
	case context > 0:
		m.Context = context
	}
	if err = f.weights(); err != nil {
		return nil, nil, nil, "", err
	}
	if m.Layers > len(f.where) {
		return nil, nil, nil, "", fmt.Errorf("export: %s has %d tensors, too few for %d layers", dir, len(f.where), m.Layers)
	}
	if t, err = model.New(m, a); err != nil {
		return nil, nil, nil, "", fmt.Errorf("export: %s: %w", dir, err)
	}
	list = class.tensors(t)
	if class == DeepSeek && c.Interleave != nil && !*c.Interleave {
		list = halves(list)
	}
	return f, t, list, class, f.check(list)
}

// allKnown refuses what a newer version of this program says of a model of its own class.
func (f *folder) allKnown() error {
	config := map[string]any{}
	if err := f.json("config.json", &config); err != nil {
		return err
	}
	if keys := unknown(Own, config); len(keys) > 0 {
		return fmt.Errorf("config.json has %s, which this version does not know of %s", strings.Join(keys, ", "), Own)
	}
	return nil
}

// halves are tensors whose rotary columns are in two halves, as ours are.
func halves(list []tensor) []tensor {
	for _, t := range list {
		for i := range t.parts {
			t.parts[i].order = nil
		}
	}
	return list
}
