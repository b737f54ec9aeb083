package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"headroom/attention"
	"headroom/configs"
	"headroom/model"
	"headroom/train"
)

// Card is the model card of a checkpoint, in Markdown: what the model is, how it was trained, and how well it predicts,
// as far as its run directory says.
func Card(path, checkpoint string, c configs.Run) (string, error) {
	c = c.Relative()
	t, err := model.New(c.Model, c.Attention)
	if err != nil {
		return "", err
	}
	run := path
	if _, err := os.Stat(filepath.Join(run, configName)); err != nil {
		run = filepath.Dir(filepath.Dir(checkpoint))
	}
	count := t.Count()
	var s strings.Builder
	fmt.Fprintf(&s, "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [headroom, %s]\n---\n\n# A "+
		"language model with %s attention\n\n",
		c.Attention.Kind, c.Attention.Name())
	fmt.Fprintf(&s, "%d parameters, %d layers of width %d, context %d. A cached token takes %d elements in each layer, "+
		"%d bytes in all layers in bf16.\n",
		count.Parameters, c.Model.Layers, c.Model.Width, c.Model.Context, count.CacheElements,
		t.CacheBytes(1, attention.BF16))
	s.WriteString("\nIt was trained and exported with headroom, and is a result of an experiment: it was not made to be " +
		"relied upon.\n")
	if r := stored[Result](run, resultName); r != nil && r.Tokens > 0 && len(r.Sets) > 0 {
		fmt.Fprintf(&s, "\n## How well it predicts\n\nAfter %d steps and %d tokens:\n\n| set | perplexity | bits per byte "+
			"| targets | context |\n| --- | --- | --- | --- | --- |\n", r.Steps, r.Tokens)
		for _, m := range r.Sets {
			bits := "-"
			if m.BitsPerByte > 0 {
				bits = fmt.Sprintf("%.4f", m.BitsPerByte)
			}
			fmt.Fprintf(&s, "| %s | %.4f | %s | %d | %d |\n", m.Set, m.Perplexity, bits, m.Tokens, m.Context)
		}
	}
	if c.Data.Train != "" {
		fmt.Fprintf(&s, "\n## Data\n\nTrained on %s", c.Data.Train)
		if c.Data.Tokenizer != "" {
			fmt.Fprintf(&s, ", tokens of %s", c.Data.Tokenizer)
		}
		s.WriteString(".\n")
	}
	if starts := stored[[]train.Environment](run, "env.json"); starts != nil && len(*starts) > 0 {
		s.WriteString("\n## How it was made\n\n")
		for _, e := range *starts {
			fmt.Fprintf(&s, "- %s, from step %d: `%s`, revision %s, %s, %s\n", e.Start, e.Step, strings.Join(e.Command, " "),
				e.Revision, e.CPU, e.Backend)
		}
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	fmt.Fprintf(&s, "\n## Configuration\n\n```yaml\n%s```\n", text)
	return s.String(), nil
}

// stored reads JSON of a run directory; nil where there is none that can be read.
func stored[T any](dir, name string) *T {
	text, err := os.ReadFile(filepath.Join(dir, name))
	var v T
	if err != nil || json.Unmarshal(text, &v) != nil {
		return nil
	}
	return &v
}
